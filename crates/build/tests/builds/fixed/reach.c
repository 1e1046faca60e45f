/* Reaches files in the ways that programs have, and writes down what it learned: see ../fixed.rs.
 *
 *     reach FILE OPERATION [ARGUMENT...] [, OPERATION ...]     the answers go to FILE, after the last operation
 *     reach mark                                               prints the mark of this program
 *
 * An error is an answer: `!` and its number. No answer holds a time, an inode number, or the size of a directory. In a path, %ff is
 * the byte 255. Built as a 64-bit and as a 32-bit program, with the C library, static. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The test replaces it in the program's file: another program of the same size. */
static const volatile char mark[] = "@mark-one@";

/* Shared with the children that do what cannot be undone. */
struct out { unsigned len; char text[1 << 16]; };
static struct out *out;

static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    out->len += vsnprintf(out->text + out->len, sizeof out->text - out->len, format, args);
    if (out->len >= sizeof out->text) out->len = sizeof out->text - 1;
    va_end(args);
}
static int failed(long r) {
    if (r < 0) say("!%d\n", errno);
    return r < 0;
}
static void done(long r) {
    if (!failed(r)) say("ok\n");
}
static void bytes(const char *b, long n) {
    if (failed(n)) return;
    for (long i = 0; i < n; i++) {
        unsigned char c = b[i];
        if (c == '\n' || (c >= 32 && c < 127)) say("%c", c);
        else say("%%%02x", c);
    }
    say(";\n");
}
static void contents(int fd) {
    static char b[4096];
    if (failed(fd)) return;
    long n = 0, m = 1;
    while (m > 0 && n < (long)sizeof b) {
        m = read(fd, b + n, sizeof b - n);
        if (failed(m)) break;
        n += m;
    }
    bytes(b, n);
    close(fd);
}
static void cat(const char *p) { contents(open(p, O_RDONLY)); }

static void attributes(const char *p) {
    struct stat s;
    if (failed(lstat(p, &s))) return;
    say("%o %d:%d", s.st_mode, s.st_uid, s.st_gid);
    if (S_ISREG(s.st_mode)) say(" %lld x%d", (long long)s.st_size, (int)s.st_nlink);
    say("\n");
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static char **names(const char *p, long *count) {
    char **all = NULL;
    *count = 0;
    DIR *d = opendir(p);
    if (!d) return NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (*count % 1024 == 0) all = realloc(all, (*count + 1024) * sizeof *all);
        all[(*count)++] = strdup(e->d_name);
    }
    closedir(d);
    qsort(all, *count, sizeof *all, by_name);
    return all;
}
static void list(const char *p, int whole) {
    long n;
    errno = 0;
    char **all = names(p, &n);
    if (!all && errno) failed(-1);
    for (long i = 0; i < n; i++) {
        bytes(all[i], strlen(all[i]));
        if (!whole) continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", p, all[i]);
        cat(path);
    }
}
/* How many names, and a digest of them. */
static void count(const char *p) {
    long n;
    char **all = names(p, &n);
    unsigned long long h = 14695981039346656037ull;
    for (long i = 0; i < n; i++)
        for (char *c = all[i];; c++) {
            h = (h ^ (unsigned char)*c) * 1099511628211ull;
            if (!*c) break;
        }
    say("%ld names %llx\n", n, h);
}
static void by_map(const char *p, int flags) {
    struct stat s;
    int fd = open(p, O_RDONLY);
    if (failed(fd) || failed(fstat(fd, &s))) return;
    char *m = mmap(NULL, s.st_size, PROT_READ, flags, fd, 0);
    if (failed(m == MAP_FAILED ? -1 : 0)) return;
    bytes(m, s.st_size);
    close(fd);
}
/* The last byte, read and mapped. */
static void last(const char *p) {
    struct stat s;
    char b;
    int fd = open(p, O_RDONLY);
    if (failed(fd) || failed(fstat(fd, &s))) return;
    say("%lld ", (long long)s.st_size);
    bytes(&b, pread(fd, &b, 1, s.st_size - 1));
    off_t at = (s.st_size - 1) & ~(off_t)4095;
    char *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, at);
    if (!failed(m == MAP_FAILED ? -1 : 0)) bytes(m + (s.st_size - 1 - at), 1);
    close(fd);
}
/* As a program opens it that knows nothing of files over 2 GB. */
static void small(const char *p) {
    int fd = syscall(SYS_openat, AT_FDCWD, p, O_RDONLY & ~O_LARGEFILE);
    if (!failed(fd)) say("ok\n"), close(fd);
}
static void moved(const char *how, const char *p, const char *q) {
    int from = open(p, O_RDONLY), to = memfd_create("x", 0), pipes[2];
    if (failed(from) || failed(to) || failed(pipe(pipes))) return;
    if (!strcmp(how, "sendfile")) {
        if (failed(sendfile(to, from, NULL, 4096))) return;
        lseek(to, 0, SEEK_SET);
        contents(to);
    } else if (!strcmp(how, "splice")) {
        if (failed(splice(from, NULL, pipes[1], NULL, 4096, 0))) return;
        close(pipes[1]);
        contents(pipes[0]);
    } else {
        int copy = open(q, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (failed(copy)) return;
        /* As cp does it: not every kernel goes from one file system to another. */
        if (copy_file_range(from, NULL, copy, NULL, 4096, 0) < 0) done(sendfile(copy, from, NULL, 4096));
        else say("ok\n");
    }
}
static void execute(const char *p) {
    int pipes[2];
    if (failed(pipe(pipes))) return;
    int pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 1);
        execl(p, p, "mark", NULL);
        dprintf(1, "!%d", errno);
        _exit(0);
    }
    close(pipes[1]);
    contents(pipes[0]);
    waitpid(pid, NULL, 0);
}

/* Waits for the end of one request; its result. */
static int ring_do(int ring, struct io_uring_params *p, char *sq, char *cq, struct io_uring_sqe *sqes, struct io_uring_sqe sqe) {
    unsigned *tail = (unsigned *)(sq + p->sq_off.tail), *array = (unsigned *)(sq + p->sq_off.array);
    unsigned mask = *(unsigned *)(sq + p->sq_off.ring_mask), at = *tail & mask;
    sqes[at] = sqe;
    array[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
    unsigned *head = (unsigned *)(cq + p->cq_off.head);
    struct io_uring_cqe *cqes = (struct io_uring_cqe *)(cq + p->cq_off.cqes);
    int r = cqes[*head & *(unsigned *)(cq + p->cq_off.ring_mask)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    if (r < 0) errno = -r;
    return r < 0 ? -1 : r;
}
static int by_ring(const char *path) {
    struct io_uring_params p = {0};
    int ring = syscall(SYS_io_uring_setup, 4, &p);
    if (ring < 0) return -1;
    int rw = PROT_READ | PROT_WRITE;
    char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), rw, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), rw, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    void *sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), rw, MAP_SHARED, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED) return -1;
    static char b[4096];
    struct io_uring_sqe o = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)path, .open_flags = O_RDONLY};
    int fd = ring_do(ring, &p, sq, cq, sqes, o);
    if (fd < 0) return failed(fd), 0;
    struct io_uring_sqe r = {.opcode = IORING_OP_READ, .fd = fd, .addr = (unsigned long)b, .len = sizeof b};
    bytes(b, ring_do(ring, &p, sq, cq, sqes, r));
    return 0;
}
static int by_handle(const char *dir, const char *path) {
    union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u = {.h.handle_bytes = MAX_HANDLE_SZ};
    int id, mount = open(dir, O_RDONLY | O_DIRECTORY);
    if (mount < 0 || name_to_handle_at(AT_FDCWD, path, &u.h, &id, 0) < 0) return -1;
    int fd = open_by_handle_at(mount, &u.h, O_RDONLY);
    if (fd < 0) return -1;
    contents(fd);
    return 0;
}
static int by_mount(int flags, const char *d, const char *name) {
    char path[4096];
    if (unshare(flags) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(d, d, NULL, MS_BIND, NULL)) return -1;
    snprintf(path, sizeof path, "%s/%s", d, name);
    cat(path);
    return 0;
}
/* A mount that is nowhere. */
static int by_tree(const char *d, const char *name) {
    int tree = syscall(SYS_open_tree, AT_FDCWD, d, 1 /* OPEN_TREE_CLONE */);
    if (tree < 0) return -1;
    contents(openat(tree, name, O_RDONLY));
    return 0;
}
static int by_root(const char *d, const char *p) {
    if (chroot(d)) return -1;
    cat(p);
    return 0;
}
static void unnamed(const char *d, const char *q) {
    char path[64];
    int fd = open(d, O_TMPFILE | O_RDWR, 0600);
    if (failed(fd)) return;
    if (write(fd, "tmp\n", 4) != 4) failed(-1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    done(linkat(AT_FDCWD, path, AT_FDCWD, q, AT_SYMLINK_FOLLOW));
}
static long capable(const char *p, unsigned bits) {
    unsigned v[5] = {0x02000001, bits};
    return setxattr(p, "security.capability", v, sizeof v, 0);
}
static void capability(const char *p) {
    unsigned v[8];
    long n = getxattr(p, "security.capability", v, sizeof v);
    if (!failed(n)) say("%ld %x\n", n, v[1]);
}
static void empty(const char *p) {
    long n;
    char **all = names(p, &n), path[4096];
    for (long i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", p, all[i]);
        if (unlink(path)) empty(path);
    }
    done(rmdir(p));
}
static long append(const char *p, const char *text) {
    int fd = open(p, O_WRONLY | O_CREAT | O_APPEND, 0644);
    long r = fd < 0 ? -1 : write(fd, text, strlen(text));
    close(fd);
    return r;
}
/* A file of a little more than 2 GB with nothing in it but its end, which is that of a small one. */
static void sparse(const char *p, const char *q) {
    char b[256];
    int from = open(p, O_RDONLY), to = open(q, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (failed(from) || failed(to)) return;
    long n = read(from, b, sizeof b);
    done(n < 0 ? n : pwrite(to, b, n, (off_t)1 << 31));
}
static void same(const char *p, const char *q) {
    struct stat a, b;
    if (failed(stat(p, &a)) || failed(stat(q, &b))) return;
    say("%s\n", a.st_ino == b.st_ino && a.st_dev == b.st_dev ? "same" : "other");
}

/* What a sandbox may refuse: then it says so, and reads the file as others do. */
static void perhaps(int r, const char *path) {
    if (r == 0) return;
    say("refused !%d, ", errno);
    cat(path);
}
static void forbidden(const char *op, const char *p, const char *q) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", p, q);
    int pid = fork();
    if (pid) {
        waitpid(pid, NULL, 0);
        return;
    }
    if (!strcmp(op, "ring")) perhaps(by_ring(p), p);
    else if (!strcmp(op, "handle")) perhaps(by_handle(p, path), path);
    else if (!strcmp(op, "chroot")) perhaps(by_root(p, q), path);
    else if (!strcmp(op, "mounts")) perhaps(by_mount(CLONE_NEWNS, p, q), path);
    else if (!strcmp(op, "user-mounts")) perhaps(by_mount(CLONE_NEWUSER | CLONE_NEWNS, p, q), path);
    else if (!strcmp(op, "tree")) perhaps(by_tree(p, q), path);
    else say("?\n");
    _exit(0);
}

static char *decoded(char *text) {
    char *to = text;
    for (char *from = text; *from; to++) {
        unsigned byte;
        if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) *to = (char)byte, from += 3;
        else *to = *from++;
    }
    *to = 0;
    return text;
}
static void operation(int n, char **a) {
    char *o = a[0], *p = n > 1 ? decoded(a[1]) : "/", *q = n > 2 ? decoded(a[2]) : "/";
    if (!strcmp(o, "cat")) cat(p);
    else if (!strcmp(o, "stat")) attributes(p);
    else if (!strcmp(o, "there")) done(access(p, F_OK));
    else if (!strcmp(o, "ls")) list(p, 0);
    else if (!strcmp(o, "cat-all")) list(p, 1);
    else if (!strcmp(o, "count")) count(p);
    else if (!strcmp(o, "readlink")) {
        char b[256];
        bytes(b, readlink(p, b, sizeof b));
    } else if (!strcmp(o, "map")) by_map(p, MAP_PRIVATE);
    else if (!strcmp(o, "map-shared")) by_map(p, MAP_SHARED);
    else if (!strcmp(o, "last")) last(p);
    else if (!strcmp(o, "small")) small(p);
    else if (!strcmp(o, "sendfile") || !strcmp(o, "splice") || !strcmp(o, "copy-range")) moved(o, p, q);
    else if (!strcmp(o, "exec")) execute(p);
    else if (!strcmp(o, "unnamed")) unnamed(p, q);
    else if (!strcmp(o, "chmod")) done(chmod(p, strtol(q, NULL, 8)));
    else if (!strcmp(o, "chown")) done(chown(p, atoi(q), atoi(q)));
    else if (!strcmp(o, "utimes")) done(utimensat(AT_FDCWD, p, (struct timespec[]){{1000, 0}, {1000, 0}}, 0));
    else if (!strcmp(o, "setcap")) done(capable(p, atoi(q)));
    else if (!strcmp(o, "getcap")) capability(p);
    else if (!strcmp(o, "append")) done(append(p, q));
    else if (!strcmp(o, "ln")) done(link(p, q));
    else if (!strcmp(o, "same")) same(p, q);
    else if (!strcmp(o, "rm")) done(unlink(p));
    else if (!strcmp(o, "mkdir")) done(mkdir(p, 0755));
    else if (!strcmp(o, "empty")) empty(p);
    else if (!strcmp(o, "sparse")) sparse(p, q);
    else if (!strcmp(o, "grow")) done(truncate(p, strtoll(q, NULL, 10)));
    else forbidden(o, p, q);
}

int main(int argc, char **argv) {
    if (argc == 2) return write(1, (const char *)mark, sizeof mark - 1) < 0;
    out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    umask(022);
    for (int from = 2, to; from < argc; from = to + 1) {
        for (to = from; to < argc && strcmp(argv[to], ",");) to++;
        if (to > from) operation(to - from, argv + from);
    }
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return fd < 0 || write(fd, out->text, out->len) != (long)out->len;
}
