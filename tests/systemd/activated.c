/* An app that speaks systemd's protocols, for the tests.
 *   notify TEXT...  sends each TEXT to $NOTIFY_SOCKET
 *   serve           checks $LISTEN_PID, answers on each socket passed with its name and all open descriptors
 *   fds             prints the open descriptors and whether any variable of systemd's is set
 * What goes wrong is printed, with a status of 1.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int notify(int count, char **texts)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (!path || fd < 0)
        return fail("no NOTIFY_SOCKET");
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    for (int i = 0; i < count; i++)
        if (sendto(fd, texts[i], strlen(texts[i]), 0, (void *)&to, sizeof to) < 0)
            return fail(path);
    return 0;
}

static void descriptors(char *out, size_t size)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t used = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
            used += snprintf(out + used, size - used, " %s", entry->d_name);
    closedir(directory);
}

static int serve(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    if (!pid || !count || !names || atoi(pid) != getpid()) {
        printf("LISTEN_PID=%s LISTEN_FDS=%s LISTEN_FDNAMES=%s in process %d\n", pid, count, names, getpid());
        return 1;
    }
    struct pollfd sockets[8] = {0};
    int number = atoi(count);
    for (int i = 0; i < number; i++)
        sockets[i] = (struct pollfd){.fd = 3 + i, .events = POLLIN};
    while (poll(sockets, number, -1) > 0)
        for (int i = 0; i < number; i++)
            if (sockets[i].revents) {
                char open[256] = "";
                descriptors(open, sizeof open);
                int peer = accept(sockets[i].fd, NULL, NULL);
                dprintf(peer, "socket %d of %s, open:%s\n", i, names, open);
                close(peer);
            }
    return fail("poll");
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 2 && !strcmp(argv[1], "notify"))
        return notify(argc - 2, argv + 2);
    if (argc == 2 && !strcmp(argv[1], "serve"))
        return serve();
    char open[256] = "";
    descriptors(open, sizeof open);
    printf("open:%s, variables:%s\n", open,
           getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("NOTIFY_SOCKET") ? " some" : " none");
    return 0;
}
