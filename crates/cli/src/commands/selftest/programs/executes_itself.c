/* Executes itself for ever: the process is never for long what it was. */
#include "attack.h"

int attack(int count, char **arguments) {
	(void)count;
	static char *nothing[] = {0};
	for (;;)
		call(__NR_execve, "/proc/self/exe", arguments, nothing);
}
