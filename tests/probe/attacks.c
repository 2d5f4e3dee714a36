/* What a hostile app does, by its first argument; see tests/security. A line tells how far it got. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Take what the kernel counts by user. */
static int exhaust(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    long watchers = 0, signals = 0;
    while (watchers < 20000 && inotify_init() >= 0)
        watchers++;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    union sigval value = {0};
    while (signals < 1000000 && sigqueue(getpid(), SIGRTMIN, value) == 0)
        signals++;
    printf("took %ld watchers and %ld signals\n", watchers, signals);
    fflush(stdout);
    pause();
    return 0;
}

/* Pin a file, a directory with content and the root directory to where they are, each in both ways. */
static int pin(void) {
    const char *paths[] = {"/d/f", "/d/e/g", "/d/e", "/d", "/h", "/"};
    int flags = FS_IMMUTABLE_FL | FS_APPEND_FL, pinned = 0;
    mkdir("/d", 0755);
    mkdir("/d/e", 0);
    for (int at = 0; at < 6; at++) {
        int fd = open(paths[at], at == 2 || at == 3 || at == 5 ? O_RDONLY : O_RDWR | O_CREAT, 0);
        pinned += ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
    }
    printf("pinned %d\n", pinned);
    return 0;
}

/* Open the memory of every process as it appears, and tell whose it was when it is an interpreter's. */
static void intrude(void) {
    printf("begun\n");
    fflush(stdout);
    for (int next = getpid() + 1;;) {
        for (int pid = next; pid < next + 8; pid++) {
            char path[64], words[256];
            int memory = -1;
            snprintf(path, sizeof path, "/proc/%d/mem", pid);
            if (kill(pid, 0) != 0)
                continue;
            while (memory < 0 && kill(pid, 0) == 0)
                memory = open(path, O_RDWR);
            next = pid + 1;
            if (memory < 0)
                continue;
            snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
            int line = open(path, O_RDONLY);
            ssize_t length = read(line, words, sizeof words - 1);
            words[length < 0 ? 0 : length] = 0;
            printf("inside %s\n", strstr(words, "python") ? "rkt" : "an app");
            fflush(stdout);
            close(line);
            close(memory);
        }
    }
}

/* Read the command line of every process as it appears, and tell of a word in it. */
static void look(const char *word) {
    printf("begun\n");
    fflush(stdout);
    for (int next = getpid() + 1;;) {
        for (int pid = next; pid < next + 8; pid++) {
            char path[64], words[4096];
            snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
            int line = open(path, O_RDONLY);
            if (line < 0)
                continue;
            next = pid + 1;
            ssize_t length = read(line, words, sizeof words);
            if (length > 0 && memmem(words, length, word, strlen(word))) {
                printf("read %s\n", word);
                fflush(stdout);
            }
            close(line);
        }
    }
}

/* Hand the standard output to another pod that waits at /vol/socket, and end. */
static int give(int to, char *buffer, size_t size) {
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = buffer, .msg_controllen = size};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)CMSG_DATA(rights) = 1;
    sendmsg(to, &message, 0);
    sleep(1);
    return 0;
}

/* Take it there, and never stop writing. */
static int keep(int from, char *buffer, size_t size) {
    char byte, lines[4096];
    struct iovec space = {&byte, 1};
    struct msghdr message = {.msg_iov = &space, .msg_iovlen = 1, .msg_control = buffer, .msg_controllen = size};
    printf("waiting\n");
    fflush(stdout);
    recvmsg(accept(from, NULL, NULL), &message, 0);
    int given = *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    fcntl(given, F_SETPIPE_SZ, 1 << 20);
    memset(lines, '\n', sizeof lines);
    signal(SIGPIPE, SIG_IGN);
    if (fork() == 0)
        fork();
    while (write(given, lines, sizeof lines) > 0)
        ;
    pause();
    return 0;
}

int main(int count, char **words) {
    char buffer[CMSG_SPACE(sizeof(int))] = {0};
    struct sockaddr_un address = {AF_UNIX, "/vol/socket"};
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "exhaust"))
        return exhaust();
    if (!strcmp(what, "pin"))
        return pin();
    if (!strcmp(what, "look") && count > 2)
        look(words[2]);
    if (!strcmp(what, "intrude"))
        intrude();
    int end = socket(AF_UNIX, SOCK_STREAM, 0);
    if (!strcmp(what, "give")) {
        while (connect(end, (struct sockaddr *)&address, sizeof address) != 0)
            usleep(10000);
        return give(end, buffer, sizeof buffer);
    }
    if (bind(end, (struct sockaddr *)&address, sizeof address) != 0 || listen(end, 1) != 0)
        return 1;
    return keep(end, buffer, sizeof buffer);
}
