/* A disk that fails on order, for tests: loaded before the C library (LD_PRELOAD), steered by the functions at the end.
 *
 * Counts the calls that change files whose path begins with a given text: write, pwrite, fdatasync, fsync, ftruncate,
 * posix_fallocate, rename, and the opening of a file that is not there yet. The k-th of them fails with an errno, or
 * writes half of what it was given, or is said to be done and is not; or, as on a full disk, every one from the k-th on
 * that needs room fails.
 *
 * Beside that it can keep, of every file below a directory, what was synced last: all that a loss of power leaves. That a
 * file exists, or is called otherwise or is gone, is taken as durable at once; what is in it, as of its last sync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { FAIL = 0, CUT = 1, DROP = 2, FULL = 3 };

static char target[PATH_MAX];
static char kept_root[PATH_MAX];
static char kept_in[PATH_MAX];
static atomic_long calls, fired;
static long chosen;
static int how, code;

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return 1;
}

static int begins(const char *path, const char *text) { return *text && !strncmp(path, text, strlen(text)); }

/* Whether this call is struck; `room`: it needs some on the disk. */
static int struck(const char *path, int room) {
    if (!begins(path, target)) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (how == FULL ? !(room && n >= chosen) : n != chosen) return 0;
    atomic_fetch_add(&fired, 1);
    return 1;
}

static int struck_fd(int fd, int room) {
    char path[PATH_MAX];
    return *target && path_of(fd, path) && struck(path, room);
}

static void kept_name(const char *path, char *name) {
    int n = snprintf(name, PATH_MAX, "%s/", kept_in);
    for (const char *c = path; *c && n < PATH_MAX - 1; c++) name[n++] = *c == '/' ? '%' : *c;
    name[n] = 0;
}

static void keep(int fd) {
    char path[PATH_MAX], name[PATH_MAX], partial[PATH_MAX + 16], block[65536];
    if (!*kept_root || !path_of(fd, path) || !begins(path, kept_root)) return;
    kept_name(path, name);
    snprintf(partial, sizeof partial, "%s.%d", name, fd);
    int from = open(path, O_RDONLY | O_CLOEXEC), to = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n;
    while (from >= 0 && to >= 0 && (n = read(from, block, sizeof block)) > 0)
        if (write(to, block, n) != n) break;
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    rename(partial, name);
}

static ssize_t written(ssize_t (*again)(int, const void *, size_t, off_t), int fd, const void *from, size_t size, off_t at) {
    if (!struck_fd(fd, 1) || (how == CUT && size < 2)) return again(fd, from, size, at);
    if (how == CUT) return again(fd, from, size / 2, at);
    if (how == DROP) return size;
    errno = code;
    return -1;
}

static ssize_t plainly(int fd, const void *from, size_t size, off_t at) { REAL(write); (void)at; return real(fd, from, size); }
static ssize_t placed(int fd, const void *from, size_t size, off_t at) { REAL(pwrite64); return real(fd, from, size, at); }

ssize_t write(int fd, const void *from, size_t size) { return written(plainly, fd, from, size, 0); }
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { return written(placed, fd, from, size, at); }
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { return written(placed, fd, from, size, at); }

/* 0: do it; 1: say that it is done; -1: fail. */
static int verdict(int is_struck) {
    if (!is_struck || how == CUT) return 0;
    if (how == DROP) return 1;
    errno = code;
    return -1;
}

#define SYNC(name) \
    int name(int fd) { \
        int said = verdict(struck_fd(fd, 0)); \
        if (said) return said > 0 ? 0 : -1; \
        if (*kept_root) { keep(fd); return 0; } \
        REAL(name); \
        return real(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset) \
    int name(int fd, offset size) { \
        REAL(name); \
        int said = verdict(struck_fd(fd, 0)); \
        return said ? (said > 0 ? 0 : -1) : real(fd, size); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ALLOCATE(name, offset) \
    int name(int fd, offset at, offset size) { \
        REAL(name); \
        int said = verdict(struck_fd(fd, 1)); \
        return said ? (said > 0 ? 0 : code) : real(fd, at, size); \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

int rename(const char *old, const char *new) {
    REAL(rename);
    int said = verdict(struck(new, 1));
    if (said) return said > 0 ? 0 : -1;
    int done = real(old, new);
    if (!done && begins(new, kept_root)) {
        char before[PATH_MAX], after[PATH_MAX];
        kept_name(old, before);
        kept_name(new, after);
        if (real(before, after)) unlink(after);
    }
    return done;
}

int unlink(const char *path) {
    REAL(unlink);
    int done = real(path);
    if (!done && begins(path, kept_root)) {
        char name[PATH_MAX];
        kept_name(path, name);
        real(name);
    }
    return done;
}

static int made(const char *path, int flags) {
    struct stat found;
    return (flags & O_CREAT) && begins(path, target) && stat(path, &found) && struck(path, 1) && how != CUT;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        REAL(name); \
        if (made(path, flags)) { errno = how == DROP ? EIO : code; return -1; } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int place, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        REAL(name); \
        if (made(path, flags)) { errno = how == DROP ? EIO : code; return -1; } \
        return real(place, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* Strike the k-th call on files whose path begins with `path`, in this manner (0 fail, 1 cut, 2 drop, 3 full from then on). */
void faulty_arm(const char *path, long k, int manner, int number) {
    target[0] = 0;
    atomic_store(&calls, 0);
    atomic_store(&fired, 0);
    chosen = k;
    how = manner;
    code = number;
    snprintf(target, sizeof target, "%s", path);
}

void faulty_disarm(void) { target[0] = 0; }
long faulty_calls(void) { return atomic_load(&calls); }
long faulty_fired(void) { return atomic_load(&fired); }

/* From now on keep what is synced of the files below `root` in the directory `place`; syncs reach no disk any more. */
void faulty_keep(const char *root, const char *place) {
    snprintf(kept_in, sizeof kept_in, "%s", place);
    snprintf(kept_root, sizeof kept_root, "%s", root);
}
