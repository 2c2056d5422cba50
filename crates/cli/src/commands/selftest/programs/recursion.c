/* Uses its stack up. */
#include "attack.h"

static volatile char sink;

__attribute__((noinline)) static int deeper(int depth) {
	volatile char frame[4096];
	frame[depth % 4096] = (char)depth;
	sink = frame[0];
	return deeper(depth + 1) + frame[0];
}

int attack(int count, char **arguments) {
	(void)arguments;
	return deeper(count);
}
