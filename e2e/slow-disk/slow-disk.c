/*! A disk that takes its time: loaded into a program before libc, it puts off what has to reach the disk, by as many
    milliseconds as the file says that SLOW_DISK_FILE names. Every call reads it again, and so does one that waits: the disk may
    become quick at any time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned wanted_millis(void) {
    const char *path = getenv("SLOW_DISK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    unsigned millis = 0;
    if (file && fscanf(file, "%u", &millis) != 1)
        millis = 0;
    if (file)
        fclose(file);
    return millis;
}

static void take_time(void) {
    for (unsigned waited = 0; waited < wanted_millis(); waited += 5)
        usleep(5000);
}

int fsync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    take_time();
    return real(file);
}

int fdatasync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    take_time();
    return real(file);
}
