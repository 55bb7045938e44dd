// Counts what a process does to files, and ends it or fails it at a chosen point.
//
// Loaded before libc (LD_PRELOAD). Each call that changes something on the disk is a point: creating, writing,
// cutting, renaming, removing, linking, making a folder, syncing. Told by the environment:
//
//   POINTS_LOG   a file that gets a line for each point
//   POINTS_KILL  the number of the point before which the process is killed
//   POINTS_TEAR  the same, but of a write half is done before
//   POINTS_FAIL  the number of the first point that fails
//   POINTS_FOR   how many points fail from there (all, if not said)
//   POINTS_ERROR the number of the error
//   POINTS_STOP  a part of a path: the process stops, as by Ctrl-Z, before it opens a file there, or changes something
//   POINTS_LOCKS the number of the error that every attempt to lock a file ends with
//   POINTS_WHERE a part of the path of such a file
//   POINTS_SKIP  how many times it does not
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long reached, passed;
static const char *stop_at;
static long skip;
static int no_locks;
static long kill_at = -1, tear_at = -1, fail_at = -1, fail_for = -1;
static int error = EIO, log_file = -1;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : -1;
}

__attribute__((constructor)) static void begin(void) {
    // Programs that this one starts are none of our business.
    unsetenv("LD_PRELOAD");
    kill_at = number("POINTS_KILL");
    tear_at = number("POINTS_TEAR");
    fail_at = number("POINTS_FAIL");
    fail_for = number("POINTS_FOR");
    if (number("POINTS_ERROR") > 0) error = (int)number("POINTS_ERROR");
    stop_at = getenv("POINTS_STOP");
    skip = number("POINTS_SKIP");
    if (number("POINTS_LOCKS") > 0) no_locks = (int)number("POINTS_LOCKS");
    const char *path = getenv("POINTS_LOG");
    if (path) log_file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void stop(const char *path) {
    if (!stop_at || !path || !strstr(path, stop_at)) return;
    if (atomic_fetch_add(&passed, 1) == (skip > 0 ? skip : 0)) {
        // Sent to this thread: another one would stop this one only some time later.
        raise(SIGSTOP);
    }
}

// What is to become of the next point.
enum fate { GO, TEAR, FAIL };

static enum fate point(const char *what, const char *path) {
    stop(path);
    long here = atomic_fetch_add(&reached, 1);
    if (log_file >= 0) {
        char line[512];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", here, what, path ? path : "");
        if (length >= (int)sizeof line) length = sizeof line - 1;
        syscall(SYS_write, log_file, line, length);
    }
    if (here == kill_at) die();
    if (here == tear_at) return TEAR;
    if (fail_at >= 0 && here >= fail_at && (fail_for < 0 || here < fail_at + fail_for)) return FAIL;
    return GO;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define POINT(what, path)                      \
    {                                          \
        switch (point(what, path)) {           \
        case TEAR: die();                      \
        case FAIL: errno = error; return -1;   \
        case GO: break;                        \
        }                                      \
    }

static int is_file(int fd) {
    struct stat info;
    return fd > 2 && fd != log_file && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

static const char *name_of(int fd, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, size - 1);
    if (length < 0) return "";
    buffer[length] = 0;
    return buffer;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_file(fd)) {
        char name[400];
        switch (point("write", name_of(fd, name, sizeof name))) {
        case TEAR: NEXT(write)(fd, bytes, count / 2); die();
        case FAIL: errno = error; return -1;
        case GO: break;
        }
    }
    return NEXT(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char name[400];
    if (is_file(fd)) POINT("writev", name_of(fd, name, sizeof name));
    return NEXT(writev)(fd, parts, count);
}

static ssize_t write_at(int fd, const void *bytes, size_t count, off64_t offset) {
    if (is_file(fd)) {
        char name[400];
        switch (point("pwrite", name_of(fd, name, sizeof name))) {
        case TEAR: NEXT(pwrite64)(fd, bytes, count / 2, offset); die();
        case FAIL: errno = error; return -1;
        case GO: break;
        }
    }
    return NEXT(pwrite64)(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return write_at(fd, bytes, count, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) { return write_at(fd, bytes, count, offset); }

static int creates(int flags) { return (flags & (O_CREAT | O_TRUNC)) != 0; }

#define OPEN_MODE                          \
    mode_t mode = 0;                       \
    if (flags & (O_CREAT | O_TMPFILE)) {   \
        va_list more;                      \
        va_start(more, flags);             \
        mode = va_arg(more, mode_t);       \
        va_end(more);                      \
    }

int open(const char *path, int flags, ...) {
    OPEN_MODE
    if (creates(flags)) POINT("open", path) else stop(path);
    return NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    OPEN_MODE
    if (creates(flags)) POINT("open", path) else stop(path);
    return NEXT(open64)(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    OPEN_MODE
    if (creates(flags)) POINT("open", path) else stop(path);
    return NEXT(openat)(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    OPEN_MODE
    if (creates(flags)) POINT("open", path) else stop(path);
    return NEXT(openat64)(at, path, flags, mode);
}

#define PASS(name, parameters, arguments, path) \
    int name parameters {                       \
        POINT(#name, path)                      \
        return NEXT(name) arguments;            \
    }

PASS(rename, (const char *from, const char *to), (from, to), to)
PASS(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), to)
PASS(renameat2, (int a, const char *from, int b, const char *to, unsigned f), (a, from, b, to, f), to)
PASS(unlink, (const char *path), (path), path)
PASS(unlinkat, (int at, const char *path, int flags), (at, path, flags), path)
PASS(rmdir, (const char *path), (path), path)
PASS(mkdir, (const char *path, mode_t mode), (path, mode), path)
PASS(mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), path)
PASS(link, (const char *from, const char *to), (from, to), to)
PASS(linkat, (int a, const char *from, int b, const char *to, int f), (a, from, b, to, f), to)
PASS(symlink, (const char *from, const char *to), (from, to), to)
PASS(symlinkat, (const char *from, int at, const char *to), (from, at, to), to)
PASS(chmod, (const char *path, mode_t mode), (path, mode), path)
PASS(fchmod, (int fd, mode_t mode), (fd, mode), "")
PASS(ftruncate, (int fd, off_t length), (fd, length), "")
PASS(ftruncate64, (int fd, off64_t length), (fd, length), "")
PASS(fsync, (int fd), (fd), "")
PASS(fdatasync, (int fd), (fd), "")

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
    POINT("copy_file_range", "");
    return NEXT(copy_file_range)(in, from, out, to, count, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    if (is_file(out)) POINT("sendfile", "");
    return NEXT(sendfile)(out, in, offset, count);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    if (is_file(out)) POINT("sendfile", "");
    return NEXT(sendfile64)(out, in, offset, count);
}

int flock(int fd, int operation) {
    char name[400];
    const char *where = getenv("POINTS_WHERE");
    if (no_locks && !(operation & LOCK_UN) && strstr(name_of(fd, name, sizeof name), where ? where : "")) {
        errno = no_locks;
        return -1;
    }
    return NEXT(flock)(fd, operation);
}
