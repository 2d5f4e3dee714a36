/* What a confined process has and may do, as lines of text that tests compare byte for byte.
 *
 * Static and without arguments it prints everything; with arguments it does one thing each:
 *   fds             the open descriptors, one line
 *   exit N          ends with N
 *   sleep           prints "ready" and waits for a signal
 *   call NR ARG...  makes the system call NR and prints its errno
 *   print TEXT      prints TEXT
 *   env             the environment, sorted
 *   keyring         how many keys the session keyring holds
 *   write PATH      opens PATH for writing and tells the errno
 * No call here changes anything if it is allowed: wrong pointers and sizes tell a refusal from a failure.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *name_of(int error)
{
    const char *name = error ? strerrorname_np(error) : "ok";
    return name ? name : "?";
}

static void status_lines(void)
{
    static const char *wanted[] = {"Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "SigBlk:",
                                   "SigIgn:", "SigCgt:", "Umask:"};
    char line[4096];
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) {
        printf("status: %s\n", name_of(errno));
        return;
    }
    while (fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i])))
                fputs(line, stdout);
    fclose(file);
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void open_fds(void)
{
    int fds[4096], count = 0;
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    if (!directory) {
        printf("fds: %s\n", name_of(errno));
        return;
    }
    while ((entry = readdir(directory)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory) && count < 4096)
            fds[count++] = atoi(entry->d_name);
    closedir(directory);
    qsort(fds, count, sizeof *fds, by_number);
    printf("fds:");
    for (int i = 0; i < count; i++)
        printf(" %d", fds[i]);
    printf("\n");
}

static void links(void)
{
    static const char *spaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    char path[64], target[256];
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        printf("namespace %s: %s\n", spaces[i], length < 0 ? name_of(errno) : target);
    }
}

static void contents(const char *title, const char *path)
{
    char line[4096];
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("%s: %s\n", title, name_of(errno));
        return;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        printf("%s: %s\n", title, line);
    }
    fclose(file);
}

static void mounts(void)
{
    char line[8192];
    FILE *file = fopen("/proc/self/mountinfo", "r");
    if (!file) {
        printf("mount: %s\n", name_of(errno));
        return;
    }
    while (fgets(line, sizeof line, file)) {
        char target[4096], options[1024], type[128];
        char *after = strstr(line, " - ");
        if (sscanf(line, "%*s %*s %*s %*s %4095s %1023s", target, options) == 2 && after &&
            sscanf(after + 3, "%127s", type) == 1)
            printf("mount %s: %s %s\n", target, type, options);
    }
    fclose(file);
}

static void limits(void)
{
    static const char *names[] = {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile",
                                  "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;
        getrlimit(i, &limit);
        printf("rlimit %s: %lld %lld\n", names[i], (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
}

static void call(const char *title, long number, long a, long b, long c, long d, long e)
{
    errno = 0;
    long result = syscall(number, a, b, c, d, e);
    printf("call %s: %s\n", title, result < 0 ? name_of(errno) : "ok");
    if (result > 2 && (number == SYS_socket || number == SYS_openat || number == SYS_userfaultfd))
        close(result);
}

/* Like call, in a child: for calls that would change the process if they are allowed. */
static void call_in_child(const char *title, long number, long a, long b, long c)
{
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        errno = 0;
        _exit(syscall(number, a, b, c, 0, 0) < 0 ? errno : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("call %s: signal %d\n", title, WTERMSIG(status));
    else
        printf("call %s: %s\n", title, name_of(WEXITSTATUS(status)));
}

static void calls(void)
{
    long bad = -4096;
    call("number-1000", 1000, 0, 0, 0, 0, 0);
    call("clone3", 435, bad, 64, 0, 0, 0);
    call("openat2", 437, AT_FDCWD, bad, bad, 24, 0);
    call("statx", SYS_statx, AT_FDCWD, bad, 0, 0, bad);
    call("faccessat2", 439, AT_FDCWD, bad, 0, 0, 0);
    call("close_range", 436, 1000, 1000, 0, 0, 0);
    call("io_uring_setup", 425, 1, bad, 0, 0, 0);
    call("keyctl-session", SYS_keyctl, 0, -3, 0, 0, 0);
    call("add_key", SYS_add_key, bad, bad, bad, 1, -3);
    call("request_key", SYS_request_key, bad, bad, bad, 0, 0);
    call("bpf", SYS_bpf, 0, bad, 8, 0, 0);
    call("perf_event_open", SYS_perf_event_open, bad, 0, -1, -1, 0);
    call("userfaultfd", SYS_userfaultfd, 0, 0, 0, 0, 0);
    call("mount", SYS_mount, bad, bad, bad, 0, bad);
    call("umount2", SYS_umount2, bad, 0, 0, 0, 0);
    call("pivot_root", SYS_pivot_root, bad, bad, 0, 0, 0);
    call("open_tree", 428, AT_FDCWD, bad, 0, 0, 0);
    call("move_mount", 429, -1, bad, -1, bad, 0);
    call("fsopen", 430, bad, 0, 0, 0, 0);
    call("mount_setattr", 442, AT_FDCWD, bad, 0, bad, 32);
    call("setns", SYS_setns, -1, 0, 0, 0, 0);
    call("chroot", SYS_chroot, bad, 0, 0, 0, 0);
    call("ptrace-nobody", SYS_ptrace, 16, 4194304, 0, 0, 0);
    call("kexec_load", SYS_kexec_load, 0, 1000, bad, 0xf0000000, 0);
    call("init_module", SYS_init_module, bad, 1, bad, 0, 0);
    call("finit_module", SYS_finit_module, -1, bad, 0, 0, 0);
    call("delete_module", SYS_delete_module, bad, 0, 0, 0, 0);
    call("reboot", SYS_reboot, 0, 0, 0, 0, 0);
    call("swapon", SYS_swapon, bad, 0, 0, 0, 0);
    call("sethostname", SYS_sethostname, bad, -1, 0, 0, 0);
    call("setdomainname", SYS_setdomainname, bad, -1, 0, 0, 0);
    call("clock_settime", SYS_clock_settime, 0, bad, 0, 0, 0);
    call("settimeofday", SYS_settimeofday, bad, 0, 0, 0, 0);
    call("syslog", SYS_syslog, 10, 0, 0, 0, 0);
    call("quotactl", SYS_quotactl, 0, bad, 0, 0, 0);
    call("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, bad, 0, 0, 0);
    call("fanotify_init", SYS_fanotify_init, 0xffffffff, 0, 0, 0, 0);
    call("lookup_dcookie", SYS_lookup_dcookie, 0, bad, 0, 0, 0);
    call("acct", SYS_acct, bad, 0, 0, 0, 0);
    call("kcmp", SYS_kcmp, getpid(), getpid(), 99, 0, 0);
    call("process_vm_readv-nobody", SYS_process_vm_readv, 4194304, 0, 0, 0, 0);
    call("move_pages", SYS_move_pages, 0, 0, 0, 0, 0);
    call("personality-query", SYS_personality, 0xffffffff, 0, 0, 0, 0);
    call_in_child("personality-no-randomize", SYS_personality, 0x0040000, 0, 0);
    call_in_child("unshare-user", SYS_unshare, CLONE_NEWUSER, 0, 0);
    call_in_child("unshare-mount", SYS_unshare, CLONE_NEWNS, 0, 0);
    call_in_child("unshare-net", SYS_unshare, CLONE_NEWNET, 0, 0);
    call_in_child("unshare-cgroup", SYS_unshare, CLONE_NEWCGROUP, 0, 0);
    call_in_child("unshare-files", SYS_unshare, CLONE_FILES, 0, 0);
    call_in_child("setuid-1", SYS_setuid, 1, 0, 0);
#ifdef SYS_iopl
    call("iopl", SYS_iopl, 9, 0, 0, 0, 0);
    call("ioperm", SYS_ioperm, 0x10000, 1, 1, 0, 0);
    call("modify_ldt", SYS_modify_ldt, 99, 0, 0, 0, 0);
    call_in_child("x32-getpid", 0x40000000 | 39, 0, 0, 0);
#endif
}

static void sockets(void)
{
    static const struct { const char *name; int family, type, protocol; } kinds[] = {
        {"unix", AF_UNIX, SOCK_STREAM, 0}, {"inet", AF_INET, SOCK_DGRAM, 0}, {"inet6", AF_INET6, SOCK_STREAM, 0},
        {"netlink", AF_NETLINK, SOCK_RAW, 0}, {"raw", AF_INET, SOCK_RAW, 1}, {"packet", AF_PACKET, SOCK_RAW, 0},
        {"alg", 38, SOCK_SEQPACKET, 0}, {"vsock", 40, SOCK_STREAM, 0}, {"key", 15, SOCK_RAW, 2},
        {"tipc", 30, SOCK_STREAM, 0}, {"rds", 21, SOCK_SEQPACKET, 0}, {"bluetooth", 31, SOCK_RAW, 1},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char title[64];
        snprintf(title, sizeof title, "socket-%s", kinds[i].name);
        call(title, SYS_socket, kinds[i].family, kinds[i].type, kinds[i].protocol, 0, 0);
    }
}

static void devices(void)
{
    static const struct { const char *name; mode_t kind; int major, minor; } nodes[] = {
        {"kmsg", S_IFCHR, 1, 11}, {"kvm", S_IFCHR, 10, 232}, {"disk", S_IFBLK, 8, 0}, {"null", S_IFCHR, 1, 3},
    };
    char path[64];
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        snprintf(path, sizeof path, "/tmp/.probe-%s", nodes[i].name);
        int made = mknod(path, nodes[i].kind | 0600, makedev(nodes[i].major, nodes[i].minor));
        printf("mknod %s: %s", nodes[i].name, made < 0 ? name_of(errno) : "ok");
        if (!made) {
            int fd = open(path, O_RDWR | O_NONBLOCK);
            printf(", open: %s", fd < 0 ? name_of(errno) : "ok");
            if (fd >= 0)
                close(fd);
            unlink(path);
        }
        printf("\n");
    }
}

/* Reads a little: what is masked opens and is empty, a masked directory has no entries. */
static void readable(const char *path)
{
    char some[16];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) {
        printf("read %s: %s\n", path, name_of(errno));
        return;
    }
    struct stat info;
    fstat(fd, &info);
    if (S_ISDIR(info.st_mode)) {
        int entries = 0;
        DIR *directory = fdopendir(fd);
        while (readdir(directory))
            entries++;
        closedir(directory);
        printf("read %s: directory, %s\n", path, entries > 2 ? "entries" : "empty");
        return;
    }
    ssize_t length = read(fd, some, sizeof some);
    printf("read %s: %s\n", path, length < 0 ? name_of(errno) : length ? "content" : "empty");
    close(fd);
}

static void writable(const char *path)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    printf("write %s: %s\n", path, fd < 0 ? name_of(errno) : "opens");
    if (fd >= 0)
        close(fd);
}

static void files(void)
{
    static const char *secret[] = {
        "/proc/acpi", "/proc/asound", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore",
        "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo",
        "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/proc/sysrq-trigger",
        "/proc/1/environ", "/proc/1/exe", "/proc/1/maps", "/proc/1/mem", "/proc/1/root", "/proc/1/fd",
        "/proc/1/cwd",
        "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/firmware",
        "/sys/fs/selinux", "/sys/fs/bpf", "/sys/hypervisor", "/sys/kernel/debug", "/sys/kernel/security",
        "/sys/kernel/tracing", "/sys/module", "/sys/power", "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/sda",
        "/dev/vda", "/dev/fuse", "/dev/net/tun",
    };
    static const char *control[] = {
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/panic", "/proc/sys/vm/drop_caches", "/proc/sys/vm/panic_on_oom",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq",
        "/proc/1/oom_score_adj", "/proc/1/uid_map", "/proc/self/uid_map", "/proc/1/mem", "/proc/1/exe",
        "/proc/self/exe", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/devices/devices.allow",
        "/sys/fs/cgroup/devices/notify_on_release", "/sys/fs/cgroup/systemd/release_agent",
        "/sys/fs/cgroup/memory.max", "/dev/null",
    };
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
        readable(secret[i]);
    for (size_t i = 0; i < sizeof control / sizeof *control; i++)
        writable(control[i]);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void environment(void)
{
    size_t count = 0;
    while (environ[count])
        count++;
    qsort(environ, count, sizeof *environ, by_text);
    for (size_t i = 0; i < count; i++)
        printf("env %s\n", environ[i]);
}

static void everything(void)
{
    char directory[4096];
    printf("cwd: %s\n", getcwd(directory, sizeof directory) ? directory : name_of(errno));
    status_lines();
    open_fds();
    printf("tty: %d %d %d\n", isatty(0), isatty(1), isatty(2));
    printf("dumpable: %d\n", prctl(PR_GET_DUMPABLE));
    contents("oom_score_adj", "/proc/self/oom_score_adj");
    contents("cgroup", "/proc/self/cgroup");
    contents("uid_map", "/proc/self/uid_map");
    contents("gid_map", "/proc/self/gid_map");
    links();
    limits();
    environment();
    mounts();
    calls();
    sockets();
    devices();
    files();
}

static void keyring(void)
{
    int keys[64];
    long length = syscall(SYS_keyctl, 11 /* KEYCTL_READ */, -3 /* session */, keys, sizeof keys, 0);
    if (length < 0)
        printf("keyring: %s\n", name_of(errno));
    else
        printf("keyring: %ld keys\n", length / (long)sizeof *keys);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        everything();
    else if (!strcmp(argv[1], "fds"))
        open_fds();
    else if (!strcmp(argv[1], "keyring"))
        keyring();
    else if (!strcmp(argv[1], "env"))
        environment();
    else if (!strcmp(argv[1], "status"))
        status_lines();
    else if (!strcmp(argv[1], "exit") && argc > 2)
        return atoi(argv[2]);
    else if (!strcmp(argv[1], "print") && argc > 2)
        puts(argv[2]);
    else if (!strcmp(argv[1], "write") && argc > 2)
        writable(argv[2]);
    else if (!strcmp(argv[1], "call") && argc > 2) {
        long words[6] = {0};
        for (int i = 2; i < argc && i < 8; i++)
            words[i - 2] = strtol(argv[i], NULL, 0);
        call(argv[2], words[0], words[1], words[2], words[3], words[4], words[5]);
    } else if (!strcmp(argv[1], "sleep")) {
        puts("ready");
        fflush(stdout);
        pause();
    } else
        return 64;
    return 0;
}
