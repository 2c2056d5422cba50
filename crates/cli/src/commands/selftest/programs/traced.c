/*
 * Has its own child trace it, and never let go: so that whoever waits for the program waits for the child. With the argument
 * "exiting" it is held before its end, else after it.
 */
#include "attack.h"

#define PTRACE_SEIZE 0x4206
#define PTRACE_O_TRACEEXIT 0x40
#define PR_SET_PTRACER 0x59616d61

int attack(int count, char **arguments) {
	long exiting = count > 1 && arguments[1][0] == 'e', program = call(__NR_getpid);
	int ends[2];
	char byte = 0;
	call(__NR_pipe, ends);
	call(__NR_prctl, PR_SET_PTRACER, -1);
	if (call(__NR_fork) == 0) {
		byte = call(__NR_ptrace, PTRACE_SEIZE, program, 0, exiting ? PTRACE_O_TRACEEXIT : 0) ? 'n' : 'y';
		call(__NR_write, ends[1], &byte, 1);
		for (;;)
			call(__NR_pause);
	}
	call(__NR_read, ends[0], &byte, 1);
	say(byte == 'y' ? "held\n" : "not held\n");
	return 7;
}
