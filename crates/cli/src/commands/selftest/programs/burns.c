/* The same in one process for each of eight, none of which ever enters the kernel. */
#include "attack.h"

int attack(int count, char **arguments) {
	(void)count, (void)arguments;
	for (int i = 0; i < 3; i++)
		call(__NR_fork);
	for (;;)
		__asm__ volatile("");
}
