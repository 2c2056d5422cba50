/* Waits for a child that never ends in the one way that no signal but one interrupts. */
#include "attack.h"

#define CLONE_VM 0x100
#define CLONE_VFORK 0x4000

int attack(int count, char **arguments) {
	(void)count, (void)arguments;
	static char stack[4096] __attribute__((aligned(16)));
	long child = call(__NR_clone, CLONE_VM | CLONE_VFORK, stack + sizeof stack, 0, 0, 0);
	if (child == 0)
		for (;;)
			call(__NR_pause);
	say("went on\n");
	return 0;
}
