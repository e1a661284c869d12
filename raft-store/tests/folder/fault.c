/* Loaded before libc into a process that uses a store: the call number MINDER_FAULT_AT which writes to, syncs or names a file
 * below MINDER_FAULT_FOLDER kills the process (MINDER_FAULT is "kill") or fails with an errno (MINDER_FAULT is a number).
 * Each such call adds a byte to the file MINDER_FAULT_COUNT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

/* 1 when this call is to fail; errno is set then. */
static int fails(const char *path) {
    const char *folder = getenv("MINDER_FAULT_FOLDER"), *at = getenv("MINDER_FAULT_AT");
    const char *fault = getenv("MINDER_FAULT"), *count = getenv("MINDER_FAULT_COUNT");
    if (!folder || !path || strncmp(path, folder, strlen(folder)) != 0) return 0;
    if (count) {
        int fd = syscall(SYS_openat, AT_FDCWD, count, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        syscall(SYS_write, fd, ".", 1);
        syscall(SYS_close, fd);
    }
    if (!at || !fault || atomic_fetch_add(&calls, 1) + 1 != atol(at)) return 0;
    if (strcmp(fault, "kill") == 0) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = atoi(fault);
    return 1;
}

static int fails_fd(int fd) {
    char link[64], path[PATH_MAX];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails_fd(fd) ? -1 : NEXT(write)(fd, bytes, length);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return fails_fd(fd) ? -1 : NEXT(pwrite)(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return fails_fd(fd) ? -1 : NEXT(pwrite64)(fd, bytes, length, at);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    return fails_fd(fd) ? -1 : NEXT(writev)(fd, pieces, count);
}
int fdatasync(int fd) { return fails_fd(fd) ? -1 : NEXT(fdatasync)(fd); }
int fsync(int fd) { return fails_fd(fd) ? -1 : NEXT(fsync)(fd); }
int sync_file_range(int fd, off64_t from, off64_t length, unsigned flags) {
    return fails_fd(fd) ? -1 : NEXT(sync_file_range)(fd, from, length, flags);
}
int ftruncate(int fd, off_t length) { return fails_fd(fd) ? -1 : NEXT(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { return fails_fd(fd) ? -1 : NEXT(ftruncate64)(fd, length); }
int fallocate(int fd, int mode, off_t from, off_t length) {
    return fails_fd(fd) ? -1 : NEXT(fallocate)(fd, mode, from, length);
}
int fallocate64(int fd, int mode, off64_t from, off64_t length) {
    return fails_fd(fd) ? -1 : NEXT(fallocate64)(fd, mode, from, length);
}
int rename(const char *from, const char *to) { return fails(from) ? -1 : NEXT(rename)(from, to); }
int unlink(const char *path) { return fails(path) ? -1 : NEXT(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : NEXT(mkdir)(path, mode); }

static mode_t mode_of(int flags, va_list more) { return flags & O_CREAT ? va_arg(more, mode_t) : 0; }

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return flags & O_CREAT && fails(path) ? -1 : NEXT(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return flags & O_CREAT && fails(path) ? -1 : NEXT(open64)(path, flags, mode);
}
