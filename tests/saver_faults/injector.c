/* Counts, logs and breaks the file operations of a process below one directory.

   Preloaded (LD_PRELOAD), and idle until `faults_arm` is called. From then on each operation that
   changes something below the root has a number, counted from 1: opening to create or truncate,
   write, fsync, ftruncate, rename, link, mkdir, unlink, rmdir. One of them can be made to go wrong:

     KILL      the process dies (SIGKILL) just before it
     TEAR      half of the data is written, then the process dies (counts writes only)
     SHORT     half of the data is written, and the call says so (counts writes only)
     FAIL      it fails with an errno
     FAIL_ALL  it and all that follow fail

   Or reads are counted instead, opening for them included, and these go wrong:

     SHORT_READ  a read gives half of what was requested, as it may
     FAIL_READ   it fails with an errno

   A log, if wanted, has every operation with its data; `log.py` reads it. A lock is held around
   each operation, so that the log's order is the order in which they happened.

   What can't be logged as an operation, a writable shared mapping, is logged as such, so that a
   reader can refuse the log.

   Needs Linux, 64 bits; all calls are made by syscall(2), in the *at forms that every
   architecture has. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, WATCH, KILL, TEAR, SHORT, FAIL, FAIL_ALL, SHORT_READ, FAIL_READ };
enum { OPEN = 1, WRITE, SYNC, TRUNCATE, RENAME, EXCHANGE, LINK, SYMLINK, MKDIR, UNLINK, RMDIR,
       MAPPED };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int mode = OFF;
static char root[PATH_MAX];
static long at, count, failed;
static int depth, failure, log_fd = -1;

/* With a depth, only operations on paths of at most so many components below the root are counted. */
void faults_arm(const char *directory, int new_mode, long new_at, int new_failure, int new_depth,
                int new_log) {
    pthread_mutex_lock(&lock);
    strncpy(root, directory, sizeof root - 1);
    at = new_at, failure = new_failure, depth = new_depth, log_fd = new_log;
    count = failed = 0;
    mode = new_mode;
    pthread_mutex_unlock(&lock);
}

/* Ends it, and returns how many operations were counted. */
long faults_disarm(void) {
    pthread_mutex_lock(&lock);
    mode = OFF;
    long counted = count;
    pthread_mutex_unlock(&lock);
    return counted;
}

/* How many operations were made to fail or to write short. */
long faults_failed(void) { return failed; }

static void die(void) {
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* The path of a descriptor, or "" if it has none. */
static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    buffer[length > 0 ? length : 0] = 0;
    return buffer;
}

/* An absolute path without "//", "/./" and a trailing "/". */
static const char *absolute(int dir, const char *path, char *buffer) {
    char whole[2 * PATH_MAX] = "", base[PATH_MAX] = "";
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (syscall(SYS_getcwd, base, sizeof base) < 0) base[0] = 0;
        } else {
            path_of(dir, base);
        }
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    char *out = buffer, *save = NULL;
    out[0] = 0;
    for (char *part = strtok_r(whole, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (strcmp(part, ".") == 0) continue;
        if (out + strlen(part) + 2 >= buffer + PATH_MAX) break;
        out += sprintf(out, "/%s", part);
    }
    return buffer;
}

/* 0 if a path is not below the root, BELOW if it is, and COUNTED too if it is not too deep. */
enum { BELOW = 1, COUNTED = 2 };

static int where(const char *path) {
    size_t length = strlen(root);
    if (strncmp(path, root, length) || (path[length] && path[length] != '/')) return 0;
    int components = 0;
    for (path += length; *path; path++) components += *path == '/';
    return BELOW | (depth && components > depth ? 0 : COUNTED);
}

static void raw_write(const void *data, size_t size) {
    while (size) {
        ssize_t done = syscall(SYS_write, log_fd, data, size);
        if (done <= 0) die();
        data = (const char *)data + done, size -= done;
    }
}

struct record { uint32_t op, from_size, to_size, data_size; int64_t offset; };

static void record(int op, const char *from, const char *to, int64_t offset, const void *data,
                   size_t size) {
    if (log_fd < 0) return;
    struct record r = {op, strlen(from), strlen(to), size, offset};
    raw_write(&r, sizeof r);
    raw_write(from, r.from_size);
    raw_write(to, r.to_size);
    raw_write(data, size);
}

/* Counts an operation. Returns 0 to go on, 1 to write half of it, or -1 with errno set. */
static int next(int place, int is_write) {
    if (!(place & COUNTED) || mode >= SHORT_READ) return 0;
    if (mode == WATCH) return count++, 0;
    if ((mode == TEAR || mode == SHORT) && !is_write) return 0;
    count++;
    if (mode == FAIL_ALL ? count < at : count != at) return 0;
    if (mode == KILL) die();
    failed++;
    if (mode == TEAR || mode == SHORT) return 1;
    errno = failure;
    return -1;
}

#define BEGIN(relevant)                                                                            \
    pthread_mutex_lock(&lock);                                                                     \
    int watched = mode == OFF ? 0 : (relevant);                                                    \
    long result = 0;                                                                               \
    if (watched && next(watched, 0) < 0) result = -1;                                              \
    if (result == 0)

#define END(...)                                                                                   \
    if (watched && result >= 0) record(__VA_ARGS__);                                               \
    int saved = errno;                                                                             \
    pthread_mutex_unlock(&lock);                                                                   \
    errno = saved;                                                                                 \
    return result

/* Opening. */

static int open_at(int dir, const char *path, int flags, mode_t permissions) {
    char buffer[PATH_MAX] = "";
    if (mode >= SHORT_READ && !(flags & (O_CREAT | O_TRUNC))) {
        pthread_mutex_lock(&lock);
        int fails = mode == FAIL_READ && where(absolute(dir, path, buffer)) && ++count == at;
        failed += fails;
        pthread_mutex_unlock(&lock);
        if (fails) return errno = failure, -1;
    }
    if (mode == OFF || !(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, dir, path, flags, permissions);
    BEGIN(where(absolute(dir, path, buffer)))
        result = syscall(SYS_openat, dir, path, flags, permissions);
    /* A trailing O_TMPFILE would be a file without a name: logged with the directory's. */
    END(OPEN, buffer, "", (flags & O_TRUNC) != 0, "", 0);
}

#define PERMISSIONS                                                                                \
    mode_t permissions = 0;                                                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        permissions = va_arg(arguments, mode_t);                                                   \
        va_end(arguments);                                                                         \
    }

int open(const char *path, int flags, ...) {
    PERMISSIONS return open_at(AT_FDCWD, path, flags, permissions);
}
int open64(const char *path, int flags, ...) {
    PERMISSIONS return open_at(AT_FDCWD, path, flags | O_LARGEFILE, permissions);
}
int openat(int dir, const char *path, int flags, ...) {
    PERMISSIONS return open_at(dir, path, flags, permissions);
}
int openat64(int dir, const char *path, int flags, ...) {
    PERMISSIONS return open_at(dir, path, flags | O_LARGEFILE, permissions);
}
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
int creat(const char *path, mode_t permissions) {
    return open_at(AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY, permissions);
}
int creat64(const char *path, mode_t permissions) { return creat(path, permissions); }

/* Writing. */

static int64_t place(int fd, int64_t offset) {
    struct stat status;
    if (offset >= 0) return offset;
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND && fstat(fd, &status) == 0)
        return status.st_size;
    return syscall(SYS_lseek, fd, 0, SEEK_CUR);
}

static ssize_t put(int fd, const void *data, size_t size, int64_t offset) {
    return offset < 0 ? syscall(SYS_write, fd, data, size)
                      : syscall(SYS_pwrite64, fd, data, size, offset);
}

static ssize_t write_at(int fd, const void *data, size_t size, int64_t offset) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return put(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    int watched = mode == OFF ? 0 : where(path_of(fd, buffer));
    int what = watched ? next(watched, 1) : 0;
    int64_t from = watched ? place(fd, offset) : 0;
    ssize_t result = -1;
    if (what >= 0) result = put(fd, data, what && size > 1 ? size / 2 : size, offset);
    if (what == 1 && mode == TEAR) die();
    END(WRITE, buffer, "", from, data, result);
}

static ssize_t gather(int fd, const struct iovec *parts, int number, int64_t offset) {
    size_t size = 0, done = 0;
    for (int i = 0; i < number; i++) size += parts[i].iov_len;
    char *whole = malloc(size ? size : 1);
    if (!whole) return errno = ENOMEM, -1;
    for (int i = 0; i < number; done += parts[i++].iov_len)
        memcpy(whole + done, parts[i].iov_base, parts[i].iov_len);
    ssize_t result = write_at(fd, whole, size, offset);
    int saved = errno;
    free(whole);
    errno = saved;
    return result;
}

ssize_t write(int fd, const void *data, size_t size) { return write_at(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return write_at(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return write_at(fd, data, size, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int number) {
    if (mode == OFF) return syscall(SYS_writev, fd, parts, number);
    return gather(fd, parts, number, -1);
}
ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t offset) {
    return gather(fd, parts, number, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t offset) {
    return gather(fd, parts, number, offset);
}

/* Reading. */

/* How many bytes of `size` to read, or -1 with errno set. */
static ssize_t share(int fd, size_t size) {
    char buffer[PATH_MAX] = "";
    if (mode < SHORT_READ) return size;
    pthread_mutex_lock(&lock);
    int hit = mode >= SHORT_READ && where(path_of(fd, buffer)) && ++count == at;
    failed += hit;
    pthread_mutex_unlock(&lock);
    if (!hit) return size;
    if (mode == SHORT_READ) return size > 1 ? size / 2 : size;
    return errno = failure, -1;
}

ssize_t read(int fd, void *data, size_t size) {
    ssize_t part = share(fd, size);
    return part < 0 ? part : syscall(SYS_read, fd, data, part);
}
ssize_t pread(int fd, void *data, size_t size, off_t offset) {
    ssize_t part = share(fd, size);
    return part < 0 ? part : syscall(SYS_pread64, fd, data, part, offset);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
    return pread(fd, data, size, offset);
}
ssize_t preadv(int fd, const struct iovec *parts, int number, off_t offset) {
    /* One part is enough for those here; of more the first is read, which is short. */
    if (mode >= SHORT_READ && number > 0) return pread(fd, parts->iov_base, parts->iov_len, offset);
    return syscall(SYS_preadv, fd, parts, number, offset, 0);
}
ssize_t preadv64(int fd, const struct iovec *parts, int number, off64_t offset) {
    return preadv(fd, parts, number, offset);
}

/* Copies inside the kernel: refused, as by an old kernel, so that they are made by write. */
ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
    if (mode == OFF)
        return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);
    return errno = ENOSYS, -1;
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    if (mode == OFF) return syscall(SYS_sendfile, out, in, offset, size);
    return errno = EINVAL, -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
    return sendfile(out, in, offset, size);
}

/* The rest of a file. */

static int sync_one(int fd, long number) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(number, fd);
    BEGIN(where(path_of(fd, buffer))) result = syscall(number, fd);
    END(SYNC, buffer, "", 0, "", 0);
}
int fsync(int fd) { return sync_one(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_one(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_ftruncate, fd, size);
    BEGIN(where(path_of(fd, buffer))) result = syscall(SYS_ftruncate, fd, size);
    END(TRUNCATE, buffer, "", size, "", 0);
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int truncate(const char *path, off_t size) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_truncate, path, size);
    BEGIN(where(absolute(AT_FDCWD, path, buffer))) result = syscall(SYS_truncate, path, size);
    END(TRUNCATE, buffer, "", size, "", 0);
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    char buffer[PATH_MAX] = "";
    if (mode != OFF && fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) {
        pthread_mutex_lock(&lock);
        if (where(path_of(fd, buffer))) record(MAPPED, buffer, "", 0, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, size, protection, flags, fd, offset);
}

/* Names. */

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char a[PATH_MAX] = "", b[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    BEGIN(where(absolute(from_dir, from, a)) | where(absolute(to_dir, to, b)))
        result = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    /* 1 is RENAME_NOREPLACE, 2 is RENAME_EXCHANGE. */
    END(flags & 2 ? EXCHANGE : RENAME, a, b, 0, "", 0);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char a[PATH_MAX] = "", b[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    BEGIN(where(absolute(from_dir, from, a)) | where(absolute(to_dir, to, b)))
        result = syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    END(LINK, a, b, 0, "", 0);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int symlinkat(const char *text, int dir, const char *path) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_symlinkat, text, dir, path);
    BEGIN(where(absolute(dir, path, buffer))) result = syscall(SYS_symlinkat, text, dir, path);
    END(SYMLINK, buffer, text, 0, "", 0);
}
int symlink(const char *text, const char *path) { return symlinkat(text, AT_FDCWD, path); }

int mkdirat(int dir, const char *path, mode_t permissions) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_mkdirat, dir, path, permissions);
    BEGIN(where(absolute(dir, path, buffer)))
        result = syscall(SYS_mkdirat, dir, path, permissions);
    END(MKDIR, buffer, "", 0, "", 0);
}
int mkdir(const char *path, mode_t permissions) { return mkdirat(AT_FDCWD, path, permissions); }

int unlinkat(int dir, const char *path, int flags) {
    char buffer[PATH_MAX] = "";
    if (mode == OFF) return syscall(SYS_unlinkat, dir, path, flags);
    BEGIN(where(absolute(dir, path, buffer))) result = syscall(SYS_unlinkat, dir, path, flags);
    END(flags & AT_REMOVEDIR ? RMDIR : UNLINK, buffer, "", 0, "", 0);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int result = unlink(path);
    return result < 0 && errno == EISDIR ? rmdir(path) : result;
}
