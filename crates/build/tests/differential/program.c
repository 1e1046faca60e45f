/* What runs inside the steps of random builds: carries out the operations that it is given, and writes down what it learned.
 *
 *     program FILE OPERATION [ARGUMENT...] , OPERATION ...     the answers go to FILE
 *     program - SCRIPT                                         one operation a line; the answers go to standard output
 *     program                                                  prints "static"
 *
 * It never fails: an error is an answer. No answer holds a time, an inode number, or the size of a directory, which are no part of
 * what a step may depend on. No C library: the program is a few kilobytes, and a build starts thousands of it. */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

typedef unsigned long u64;
typedef long i64;

#if defined(__x86_64__)
static i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
    i64 r;
    register i64 r10 __asm__("r10") = d;
    register i64 r8 __asm__("r8") = e;
    register i64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return r;
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
#elif defined(__aarch64__)
static i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
    register i64 x8 __asm__("x8") = n;
    register i64 x0 __asm__("x0") = a;
    register i64 x1 __asm__("x1") = b;
    register i64 x2 __asm__("x2") = c;
    register i64 x3 __asm__("x3") = d;
    register i64 x4 __asm__("x4") = e;
    register i64 x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x0, sp\n bl start\n");
#else
#error "neither x86_64 nor aarch64"
#endif
#define sys(n, a, b, c) sys6(n, (i64)(a), (i64)(b), (i64)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), 0, 0)
#define sys5(n, a, b, c, d, e) sys6(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e), 0)

static int out_fd;
static char out[1 << 16];
static u64 out_len;

void *memcpy(void *to, const void *from, u64 n) {
    char *t = to;
    for (const char *f = from; n--;) *t++ = *f++;
    return to;
}
void *memset(void *to, int c, u64 n) {
    for (char *t = to; n--;) *t++ = (char)c;
    return to;
}
static u64 len(const char *s) {
    u64 n = 0;
    while (s[n]) n++;
    return n;
}
static int cmp(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}
static void flush(void) {
    for (u64 at = 0; at < out_len;) {
        i64 n = sys(__NR_write, out_fd, out + at, out_len - at);
        if (n <= 0) break;
        at += n;
    }
    out_len = 0;
}
static void put(const char *s, u64 n) {
    if (n > sizeof out) n = sizeof out;
    if (out_len + n > sizeof out) flush();
    memcpy(out + out_len, s, n);
    out_len += n;
}
static void say(const char *s) { put(s, len(s)); }
static void number(u64 n, u64 base) {
    char b[24];
    int i = 24;
    do b[--i] = "0123456789abcdef"[n % base];
    while (n /= base);
    put(b + i, 24 - i);
}
static u64 parse(const char *s, u64 base) {
    u64 n = 0;
    for (; *s >= '0' && *s <= '9'; s++) n = n * base + (*s - '0');
    return n;
}
/* An error as an answer; 1 if it was one. */
static int failed(i64 r) {
    if (r >= 0) return 0;
    say("!");
    number(-r, 10);
    say("\n");
    return 1;
}
static void done(i64 r) {
    if (!failed(r)) say("ok\n");
}
/* A pipe is never waited for. */
static i64 open_at(const char *p, int flags, int mode) { return sys4(__NR_openat, AT_FDCWD, p, flags | O_NONBLOCK, mode); }
static void shut(i64 fd) { sys(__NR_close, fd, 0, 0); }

static void attributes(const char *p, int flags) {
    struct statx s;
    i64 r = sys5(__NR_statx, AT_FDCWD, p, flags, STATX_BASIC_STATS, &s);
    if (failed(r)) return;
    number(s.stx_mode, 8), say(" "), number(s.stx_uid, 10), say(":"), number(s.stx_gid, 10);
    if ((s.stx_mode & 0170000) == 0100000) say(" "), number(s.stx_size, 10), say(" x"), number(s.stx_nlink, 10);
    say("\n");
}
static void contents(i64 fd) {
    static char b[4096];
    if (failed(fd)) return;
    i64 n;
    while ((n = sys(__NR_read, fd, b, sizeof b)) > 0) put(b, n < 256 ? n : 256);
    if (n < 0) failed(n);
    say(";\n");
    shut(fd);
}
static void by_map(const char *p) {
    i64 fd = open_at(p, O_RDONLY, 0);
    if (failed(fd)) return;
    char *m = (char *)sys6(__NR_mmap, 0, 4096, 1, 2, fd, 0);
    struct statx s;
    i64 r = sys5(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &s);
    if (!failed(r) && s.stx_size > 0 && (i64)m > 0) put(m, s.stx_size < 200 ? s.stx_size : 200);
    say(";\n");
    shut(fd);
}

/* Names of a directory, sorted; in a stack of buffers, since removal and search go down. */
struct names {
    u64 count;
    char *name[256];
    unsigned char type[256];
};
static char heap[1 << 20];
static u64 heap_at;
static char *keep(const char *s) {
    u64 n = len(s) + 1;
    if (heap_at + n > sizeof heap) sys(__NR_exit_group, 99, 0, 0);
    char *to = heap + heap_at;
    memcpy(to, s, n);
    heap_at += n;
    return to;
}
static i64 list(const char *p, struct names *to) {
    static char b[8192];
    to->count = 0;
    i64 fd = open_at(p, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return fd;
    i64 n;
    while ((n = sys(__NR_getdents64, fd, b, sizeof b)) > 0) {
        for (i64 at = 0; at < n;) {
            char *d = b + at;
            unsigned short reclen = *(unsigned short *)(d + 16);
            char *name = d + 19;
            at += reclen;
            if (!cmp(name, ".") || !cmp(name, "..")) continue;
            if (to->count == 256) break;
            u64 i = to->count++;
            char *kept = keep(name);
            for (; i > 0 && cmp(to->name[i - 1], kept) > 0; i--) to->name[i] = to->name[i - 1], to->type[i] = to->type[i - 1];
            to->name[i] = kept, to->type[i] = d[18];
        }
    }
    shut(fd);
    return n;
}
static char *join(const char *dir, const char *name) {
    char b[4096];
    u64 n = len(dir), m = len(name);
    if (n + m + 2 > sizeof b) return keep("/");
    memcpy(b, dir, n), b[n] = '/', memcpy(b + n + 1, name, m + 1);
    return keep(b);
}
static void find(const char *p, int depth) {
    static struct names stack[12];
    struct names *l = &stack[depth];
    say(p), say(" ");
    attributes(p, AT_SYMLINK_NOFOLLOW);
    if (depth == 11 || list(p, l) < 0) return;
    for (u64 i = 0; i < l->count; i++) {
        char *q = join(p, l->name[i]);
        if (l->type[i] == 4) find(q, depth + 1);
        else say(q), say("\n");
    }
}
static i64 remove_all(const char *p, int depth) {
    static struct names stack[12];
    struct names *l = &stack[depth];
    i64 r = sys(__NR_unlinkat, AT_FDCWD, p, 0);
    if (r == 0 || depth == 11 || list(p, l) < 0) return r;
    for (u64 i = 0; i < l->count; i++) remove_all(join(p, l->name[i]), depth + 1);
    return sys(__NR_unlinkat, AT_FDCWD, p, 0x200);
}
static i64 write_to(const char *p, int flags, const char *text) {
    i64 fd = open_at(p, O_WRONLY | flags, 0644);
    if (fd < 0) return fd;
    i64 r = sys(__NR_write, fd, text, len(text));
    shut(fd);
    return r;
}
/* A copy; with its mode and times if `whole`. */
static i64 copy(const char *p, const char *q, int whole) {
    static char b[1 << 16];
    i64 from = open_at(p, O_RDONLY, 0);
    if (from < 0) return from;
    i64 n = sys(__NR_read, from, b, sizeof b);
    struct statx s;
    sys5(__NR_statx, from, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &s);
    shut(from);
    if (n < 0) return n;
    if (whole) sys(__NR_unlinkat, AT_FDCWD, q, 0);
    i64 to = open_at(q, O_WRONLY | O_CREAT | O_TRUNC, whole ? s.stx_mode & 07777 : 0644);
    if (to < 0) return to;
    n = sys(__NR_write, to, b, n);
    if (whole) {
        i64 t[4] = {s.stx_atime.tv_sec, s.stx_atime.tv_nsec, s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec};
        sys(__NR_fchmod, to, s.stx_mode & 07777, 0);
        sys(__NR_fchown, to, s.stx_uid, s.stx_gid);
        sys4(__NR_utimensat, to, 0, t, 0);
    }
    shut(to);
    return n;
}
static void same(const char *p, const char *q) {
    struct statx a, b;
    i64 r = sys5(__NR_statx, AT_FDCWD, p, 0, STATX_BASIC_STATS, &a);
    if (failed(r)) return;
    r = sys5(__NR_statx, AT_FDCWD, q, 0, STATX_BASIC_STATS, &b);
    if (failed(r)) return;
    int one = a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major && a.stx_dev_minor == b.stx_dev_minor;
    say(one ? "same\n" : "other\n");
}
static void execute(const char *p, const char *arg) {
    const char *argv[] = {p, arg, 0};
    const char *envp[] = {"PATH=/bin", 0};
    flush();
    i64 pid = sys5(__NR_clone, 17, 0, 0, 0, 0);
    if (pid == 0) {
        sys(__NR_dup3, out_fd, 1, 0);
        i64 r = sys(__NR_execve, p, argv, envp);
        failed(r);
        flush();
        sys(__NR_exit_group, 0, 0, 0);
    }
    int status = 0;
    while (sys4(__NR_wait4, pid, &status, 0, 0) == -4) {}
    say("exit "), number(status, 10), say("\n");
}
static void by_root(const char *d, const char *p) {
    flush();
    i64 pid = sys5(__NR_clone, 17, 0, 0, 0, 0);
    if (pid == 0) {
        i64 r = sys(__NR_chroot, d, 0, 0);
        if (!failed(r)) contents(open_at(p, O_RDONLY, 0));
        flush();
        sys(__NR_exit_group, 0, 0, 0);
    }
    while (sys4(__NR_wait4, pid, 0, 0, 0) == -4) {}
}
static void unnamed(const char *d, const char *q) {
    i64 fd = open_at(d, O_TMPFILE | O_RDWR, 0600);
    if (failed(fd)) return;
    sys(__NR_write, fd, "tmp\n", 4);
    char path[32] = "/proc/self/fd/";
    u64 at = 14, n = fd;
    if (n > 9) path[at++] = '0' + n / 10;
    path[at] = '0' + n % 10;
    done(sys5(__NR_linkat, AT_FDCWD, path, AT_FDCWD, q, AT_SYMLINK_FOLLOW));
    shut(fd);
}
/* A file capability: the attribute that images keep. */
static i64 capable(const char *p, const char *bits) {
    unsigned int v[5] = {0x02000000 | 1, parse(bits, 10), 0, 0, 0};
    return sys5(__NR_setxattr, p, "security.capability", v, sizeof v, 0);
}
static void capability(const char *p) {
    unsigned int v[8];
    i64 n = sys4(__NR_getxattr, p, "security.capability", v, sizeof v);
    if (!failed(n)) number(n, 10), say(" "), number(v[1], 16), say("\n");
}

static int is(const char *a, const char *b) { return !cmp(a, b); }

static void operation(int n, char **a) {
    static struct names names;
    char *p = n > 1 ? a[1] : "/", *q = n > 2 ? a[2] : "/w";
    heap_at = 0;
    if (is(a[0], "cat")) contents(open_at(p, O_RDONLY, 0));
    else if (is(a[0], "map")) by_map(p);
    else if (is(a[0], "stat")) attributes(p, 0);
    else if (is(a[0], "lstat")) attributes(p, AT_SYMLINK_NOFOLLOW);
    else if (is(a[0], "there")) done(sys(__NR_faccessat, AT_FDCWD, p, 0));
    else if (is(a[0], "runnable")) done(sys(__NR_faccessat, AT_FDCWD, p, 1));
    else if (is(a[0], "ls") || is(a[0], "glob")) {
        if (failed(list(p, &names))) return;
        for (u64 i = 0; i < names.count; i++) {
            if (is(a[0], "glob")) {
                if (names.name[i][0] != q[0]) continue;
            } else number(names.type[i], 10), say(" ");
            say(names.name[i]), say("\n");
        }
    } else if (is(a[0], "find")) find(p, 0);
    else if (is(a[0], "readlink")) {
        char b[512];
        i64 r = sys4(__NR_readlinkat, AT_FDCWD, p, b, sizeof b);
        if (!failed(r)) put(b, r), say("\n");
    } else if (is(a[0], "below")) {
        i64 d = open_at(p, O_PATH, 0);
        if (failed(d)) return;
        contents(sys4(__NR_openat, d, n > 2 ? q : "a", O_RDONLY | O_NONBLOCK, 0));
        shut(d);
    } else if (is(a[0], "append")) done(write_to(p, O_CREAT | O_APPEND, "more\n"));
    else if (is(a[0], "write")) done(write_to(p, O_CREAT | O_TRUNC, n > 2 ? q : "text"));
    else if (is(a[0], "patch")) done(write_to(p, 0, "P"));
    else if (is(a[0], "create")) done(write_to(p, O_CREAT | O_EXCL, "new\n"));
    else if (is(a[0], "truncate")) done(sys(__NR_truncate, p, n > 2 ? parse(q, 10) : 3, 0));
    else if (is(a[0], "chmod")) done(sys(__NR_fchmodat, AT_FDCWD, p, parse(n > 2 ? q : "755", 8)));
    else if (is(a[0], "chown")) done(sys5(__NR_fchownat, AT_FDCWD, p, n > 2 ? parse(q, 10) : 0, 7, AT_SYMLINK_NOFOLLOW));
    else if (is(a[0], "touch")) {
        i64 t[4] = {1000, 0, 1000, 0};
        done(sys4(__NR_utimensat, AT_FDCWD, p, t, AT_SYMLINK_NOFOLLOW));
    } else if (is(a[0], "rm")) done(sys(__NR_unlinkat, AT_FDCWD, p, 0));
    else if (is(a[0], "rmdir")) done(sys(__NR_unlinkat, AT_FDCWD, p, 0x200));
    else if (is(a[0], "rm-r")) done(remove_all(p, 0));
    else if (is(a[0], "renew")) {
        done(remove_all(p, 0));
        done(sys(__NR_mkdirat, AT_FDCWD, p, 0755));
        done(write_to(join(p, "fresh"), O_CREAT, "fresh\n"));
    } else if (is(a[0], "mkdir")) done(sys(__NR_mkdirat, AT_FDCWD, p, 0755));
    else if (is(a[0], "mv")) done(sys5(__NR_renameat2, AT_FDCWD, p, AT_FDCWD, q, 0));
    else if (is(a[0], "swap")) done(sys5(__NR_renameat2, AT_FDCWD, p, AT_FDCWD, q, 2));
    else if (is(a[0], "mv-new")) done(sys5(__NR_renameat2, AT_FDCWD, p, AT_FDCWD, q, 1));
    else if (is(a[0], "cp")) done(copy(p, q, 0));
    else if (is(a[0], "cp-p")) done(copy(p, q, 1));
    else if (is(a[0], "ln-s")) {
        sys(__NR_unlinkat, AT_FDCWD, q, 0);
        done(sys(__NR_symlinkat, p, AT_FDCWD, q));
    } else if (is(a[0], "ln")) done(sys5(__NR_linkat, AT_FDCWD, p, AT_FDCWD, q, 0));
    else if (is(a[0], "fifo")) done(sys4(__NR_mknodat, AT_FDCWD, p, 0010644, 0));
    else if (is(a[0], "same")) same(p, q);
    else if (is(a[0], "exec")) execute(p, n > 2 ? q : 0);
    else if (is(a[0], "chroot")) by_root(p, n > 2 ? q : "/a");
    else if (is(a[0], "cd")) done(sys(__NR_chdir, p, 0, 0));
    else if (is(a[0], "unnamed")) unnamed(p, q);
    else if (is(a[0], "setcap")) done(capable(p, n > 2 ? q : "1"));
    else if (is(a[0], "getcap")) capability(p);
    else say("?\n");
}

static void script(const char *p) {
    static char text[1 << 14];
    i64 fd = open_at(p, O_RDONLY, 0);
    if (failed(fd)) return;
    i64 n = sys(__NR_read, fd, text, sizeof text - 1);
    shut(fd);
    char *args[8];
    int count = 0, first = 1;
    for (i64 i = 0; i <= n; i++) {
        if (i == n || text[i] == '\n') {
            text[i] = 0;
            /* The line that names us is none of ours. */
            if (count && !first) operation(count, args);
            count = 0, first = 0;
        } else if (text[i] == ' ') text[i] = 0;
        else if ((i == 0 || !text[i - 1]) && count < 8) args[count++] = text + i;
    }
}

__attribute__((used)) static void start(i64 *stack) __asm__("start");
static void start(i64 *stack) {
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);
    out_fd = 1;
    if (argc < 3) say("static\n");
    else if (is(argv[1], "-")) script(argv[2]);
    else {
        /* Not open meanwhile: the file may lie in what is looked at. */
        int from = 2;
        i64 fd = open_at("/dev/shm/out", O_RDWR | O_CREAT | O_TRUNC, 0600);
        out_fd = (int)fd;
        for (int i = 2; i <= argc; i++) {
            if (i < argc && !is(argv[i], ",")) continue;
            if (i > from) operation(i - from, argv + from);
            from = i + 1;
        }
        flush();
        static char all[1 << 16];
        i64 n = sys6(__NR_pread64, fd, (i64)all, sizeof all, 0, 0, 0);
        i64 to = open_at(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (n > 0 && to >= 0) sys(__NR_write, to, all, n);
        sys(__NR_exit_group, to < 0 ? 3 : 0, 0, 0);
    }
    flush();
    sys(__NR_exit_group, 0, 0, 0);
}
