/*
 * LD_PRELOAD shim: while the file that FULL_DISK names exists, every file system
 * looks full to whoever asks how much is free. So a test broker finds its disk
 * full, and free again, by its own look at it, without a disk of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

int statvfs64(const char *path, struct statvfs64 *found)
{
    static int (*real)(const char *, struct statvfs64 *);
    if (!real)
        real = (int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64");

    const char *mark = getenv("FULL_DISK");
    int result = real(path, found);
    if (result == 0 && mark && access(mark, F_OK) == 0)
        found->f_bfree = found->f_bavail = 0;
    return result;
}
