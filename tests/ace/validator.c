/* Looks at an App Container Executor from inside an app (spec/ace.md): main, sidekick, prestart, poststop.
 *
 * Prints "MODE OK" and exits with 0, or prints "MODE FAIL" and exits with 1, with a line "==> reason" on standard
 * error for each thing that is not as it should be; 64 for a wrong command line. Static, no libraries: it has to
 * run in an image that holds nothing else. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define STANDARD_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define JSON_TYPE "application/json"
#define TEXT_TYPE "text/plain; charset=us-ascii"
#define WAIT_MS 5000

static int failures;
static long slowest; /* milliseconds that one answer took at most */

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("==> ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    failures++;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Files that the modes leave for each other */

static int exists(const char *path) {
    struct stat state;
    return stat(path, &state) == 0;
}

static void want(const char *path) {
    if (!exists(path)) fail("%s does not exist", path);
}

static void want_not(const char *path) {
    if (exists(path)) fail("%s exists", path);
}

static void make_new(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        fail("%s cannot be made: %s", path, strerror(errno));
    else
        close(fd);
}

static void wait_for(const char *path) {
    long end = now_ms() + WAIT_MS;
    while (!exists(path)) {
        if (now_ms() > end) {
            fail("%s did not appear within %d ms", path, WAIT_MS);
            return;
        }
        usleep(2000);
    }
}

/* What the process was started with */

static void want_env(const char *name, const char *value) {
    const char *has = getenv(name);
    if (has == NULL || strcmp(has, value) != 0) fail("%s is '%s', not '%s'", name, has ? has : "(unset)", value);
}

static void want_cwd(const char *path) {
    char has[4096];
    if (getcwd(has, sizeof has) == NULL || strcmp(has, path) != 0) fail("the working directory is not %s", path);
}

/* A mount point that may be written, by mountinfo: its own options are the sixth field. */
static void want_mount(const char *path) {
    char line[8192], point[4096], options[1024];
    int found = 0;
    FILE *stream = fopen("/proc/self/mountinfo", "re");
    if (stream == NULL) {
        fail("/proc/self/mountinfo: %s", strerror(errno));
        return;
    }
    while (fgets(line, sizeof line, stream) != NULL) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s %1023s", point, options) != 2 || strcmp(point, path) != 0) continue;
        found = 1;
        for (char *option = strtok(options, ","); option != NULL; option = strtok(NULL, ","))
            if (strcmp(option, "ro") == 0) fail("%s is mounted read-only", path);
    }
    fclose(stream);
    if (!found) fail("%s is no mount point", path);
}

/* JSON: just enough to compare what two documents say. A value is its text, found by walking. */

static const char *blanks(const char *p) {
    return p + strspn(p, " \t\r\n");
}

/* The end of the value that begins at p; NULL for what is no JSON. */
static const char *skip(const char *p) {
    p = blanks(p);
    if (*p == '"') {
        for (p++; *p != '"'; p++) {
            if (*p == '\0') return NULL;
            if (*p == '\\' && *++p == '\0') return NULL;
        }
        return p + 1;
    }
    if (*p == '{' || *p == '[') {
        char end = *p == '{' ? '}' : ']';
        int object = *p == '{';
        p = blanks(p + 1);
        while (*p != end) {
            if (object) {
                if ((p = skip(p)) == NULL) return NULL;
                p = blanks(p);
                if (*p++ != ':') return NULL;
            }
            if ((p = skip(p)) == NULL) return NULL;
            p = blanks(p);
            if (*p == ',')
                p = blanks(p + 1);
            else if (*p != end)
                return NULL;
        }
        return p + 1;
    }
    const char *start = p;
    p += strcspn(p, ",]} \t\r\n");
    return p == start ? NULL : p;
}

/* The value of a member of the object at p; NULL if there is none. */
static const char *member(const char *p, const char *name) {
    if (p == NULL || *(p = blanks(p)) != '{') return NULL;
    p = blanks(p + 1);
    while (*p == '"') {
        const char *end = skip(p);
        if (end == NULL) return NULL;
        int same = strlen(name) == (size_t)(end - p - 2) && strncmp(p + 1, name, end - p - 2) == 0;
        p = blanks(end);
        if (*p++ != ':') return NULL;
        p = blanks(p);
        if (same) return p;
        if ((p = skip(p)) == NULL) return NULL;
        p = blanks(p);
        if (*p == ',') p = blanks(p + 1);
    }
    return NULL;
}

/* The element of a list at p, which is moved on; NULL at the end. */
static const char *element(const char **p) {
    const char *at = blanks(*p);
    if (*at == '[' || *at == ',') at = blanks(at + 1);
    if (*at == ']' || *at == '\0') return NULL;
    const char *end = skip(at);
    if (end == NULL) return NULL;
    *p = end;
    return at;
}

static int is_list(const char *p) {
    return p != NULL && *blanks(p) == '[';
}

/* The string at p, without its quotes (the tests use none that need escapes). */
static void string(const char *p, char *out, size_t size) {
    out[0] = '\0';
    const char *end = p ? skip(p) : NULL;
    if (end == NULL || *(p = blanks(p)) != '"' || (size_t)(end - p - 1) > size) return;
    memcpy(out, p + 1, end - p - 2);
    out[end - p - 2] = '\0';
}

/* The metadata service */

struct answer {
    int status;
    char type[256];
    char body[65536];
};

/* One request below AC_METADATA_URL; 0 if nothing came back. */
static int ask(const char *method, const char *path, const char *form, struct answer *answer) {
    static char buffer[131072];
    const char *base = getenv("AC_METADATA_URL");
    char host[64], prefix[1024] = "";
    int port;
    memset(answer, 0, sizeof *answer);
    if (base == NULL || sscanf(base, "http://%63[0-9.]:%d/%1023s", host, &port, prefix) < 2) {
        fail("AC_METADATA_URL is '%s'", base ? base : "(unset)");
        return 0;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval limit = {.tv_sec = 5};
    long started = now_ms();
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, host, &address.sin_addr);
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
        fail("%s: %s", base, strerror(errno));
        close(sock);
        return 0;
    }
    int length = snprintf(buffer, sizeof buffer,
                          "%s /%s/acMetadata/v1%s HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n"
                          "Metadata-Flavor: AppContainer\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          method, prefix, path, host, port, form ? strlen(form) : 0, form ? form : "");
    if (write(sock, buffer, length) != length) fail("%s: request not sent", path);
    size_t have = 0;
    ssize_t count;
    while (have < sizeof buffer - 1 && (count = read(sock, buffer + have, sizeof buffer - 1 - have)) > 0) have += count;
    close(sock);
    buffer[have] = '\0';
    long took = now_ms() - started;
    if (took > slowest) slowest = took;
    char *head_end = strstr(buffer, "\r\n\r\n");
    if (head_end == NULL || sscanf(buffer, "HTTP/1.1 %d", &answer->status) != 1) {
        fail("%s: no answer", path);
        return 0;
    }
    *head_end = '\0';
    for (char *line = strtok(buffer, "\r\n"); line != NULL; line = strtok(NULL, "\r\n"))
        if (strncasecmp(line, "content-type: ", 14) == 0) snprintf(answer->type, sizeof answer->type, "%s", line + 14);
    snprintf(answer->body, sizeof answer->body, "%s", head_end + 4);
    return 1;
}

/* A request that must succeed, with an answer of that type. */
static int get(const char *method, const char *path, const char *form, const char *type, struct answer *answer) {
    if (!ask(method, path, form, answer)) return 0;
    if (answer->status != 200) fail("%s: status %d", path, answer->status);
    if (strcmp(answer->type, type) != 0) fail("%s: type '%s', not '%s'", path, answer->type, type);
    return answer->status == 200;
}

/* Append the annotations of `list` to names and values: a known name gets the new value in its place. */
static int merge(const char *list, char names[][256], char values[][256], int count) {
    const char *at = list, *one;
    if (!is_list(list)) return count;
    while ((one = element(&at)) != NULL && count < 64) {
        char name[256], value[256];
        int i = 0;
        string(member(one, "name"), name, sizeof name);
        string(member(one, "value"), value, sizeof value);
        while (i < count && strcmp(names[i], name) != 0) i++;
        strcpy(names[i], name);
        strcpy(values[i], value);
        if (i == count) count++;
    }
    return count;
}

static void compare_annotations(const char *what, const char *expected1, const char *expected2, const char *answer) {
    static char names[64][256], values[64][256], got_names[64][256], got_values[64][256];
    int count = merge(expected2, names, values, merge(expected1, names, values, 0));
    int got = merge(answer, got_names, got_values, 0);
    if (!is_list(answer) && count) fail("%s: no list of annotations", what);
    if (got != count) fail("%s: %d annotations, not %d", what, got, count);
    for (int i = 0; i < count && i < got; i++)
        if (strcmp(names[i], got_names[i]) != 0 || strcmp(values[i], got_values[i]) != 0)
            fail("%s: annotation %d is %s=%s, not %s=%s", what, i, got_names[i], got_values[i], names[i], values[i]);
}

static void check_app(const char *app) {
    static struct answer manifest, answer;
    char name[256], path[512], id[256];
    string(member(app, "name"), name, sizeof name);
    string(member(member(app, "image"), "id"), id, sizeof id);
    snprintf(path, sizeof path, "/apps/%s/image/manifest", name);
    if (!get("GET", path, NULL, JSON_TYPE, &manifest)) return;
    snprintf(path, sizeof path, "/apps/%s/image/id", name);
    if (get("GET", path, NULL, TEXT_TYPE, &answer) && strcmp(answer.body, id) != 0)
        fail("%s: '%s', but the pod manifest says '%s'", path, answer.body, id);
    snprintf(path, sizeof path, "/apps/%s/annotations", name);
    if (get("GET", path, NULL, JSON_TYPE, &answer))
        compare_annotations(path, member(manifest.body, "annotations"), member(app, "annotations"), answer.body);
}

/* Percent-encode everything but letters and digits. */
static void encode(const char *text, char *out, size_t size) {
    size_t used = 0;
    for (; *text != '\0' && used + 4 < size; text++) used += snprintf(out + used, size - used, "%%%02X", (unsigned char)*text);
    out[used] = '\0';
}

static void check_signing(const char *uuid) {
    static struct answer answer;
    char form[2048], signature[1024];
    if (!get("POST", "/pod/hmac/sign", "content=a+farm%21", TEXT_TYPE, &answer)) return;
    encode(answer.body, signature, sizeof signature);
    snprintf(form, sizeof form, "content=a+farm%%21&uuid=%s&signature=%s", uuid, signature);
    get("POST", "/pod/hmac/verify", form, TEXT_TYPE, &answer);
    snprintf(form, sizeof form, "content=another&uuid=%s&signature=%s", uuid, signature);
    if (ask("POST", "/pod/hmac/verify", form, &answer) && answer.status != 403)
        fail("a signature of something else is accepted (status %d)", answer.status);
}

static void check_metadata(void) {
    static struct answer manifest, answer;
    if (!get("GET", "/pod/manifest", NULL, JSON_TYPE, &manifest)) return;
    if (!get("GET", "/pod/uuid", NULL, TEXT_TYPE, &answer)) return;
    char uuid[64];
    snprintf(uuid, sizeof uuid, "%.40s", answer.body);
    if (strlen(uuid) != 36 || strspn(uuid, "0123456789abcdef-") != 36) fail("'%s' is no UUID", uuid);
    if (get("GET", "/pod/annotations", NULL, JSON_TYPE, &answer)) {
        const char *expected = member(manifest.body, "annotations");
        if (is_list(expected) != is_list(answer.body)) fail("pod annotations: a list here and none there");
        compare_annotations("/pod/annotations", expected, NULL, answer.body);
    }
    const char *apps = member(manifest.body, "apps"), *app;
    int count = 0;
    while (apps != NULL && (app = element(&apps)) != NULL) {
        check_app(app);
        count++;
    }
    if (count == 0) fail("the pod manifest has no apps");
    check_signing(uuid);
}

/* The four modes */

static void main_app(void) {
    const char *limit = getenv("ACE_LIMIT_MS");
    want("/prestart");
    make_new("/main");
    want_not("/poststop");
    want_env("PATH", STANDARD_PATH);
    want_cwd("/opt/acvalidator");
    want_env("IN_ACE_VALIDATOR", "correct");
    want_mount("/db");
    want_env("AC_APP_NAME", "ace-validator-main");
    check_metadata();
    if (slowest > (limit ? atol(limit) : 100)) fail("an answer took %ld ms", slowest);
    wait_for("/db/sidekick");
    make_new("/db/main");
}

static void sidekick(void) {
    make_new("/db/sidekick");
    wait_for("/db/main");
}

static void prestart(void) {
    make_new("/prestart");
    want_not("/main");
    want_not("/poststop");
}

static void poststop(void) {
    want("/prestart");
    want("/main");
    make_new("/poststop");
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"main", main_app}, {"sidekick", sidekick}, {"prestart", prestart}, {"poststop", poststop}};
    for (size_t i = 0; argc == 2 && i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) != 0) continue;
        modes[i].run();
        printf("%s %s\n", argv[1], failures ? "FAIL" : "OK");
        return failures != 0;
    }
    fprintf(stderr, "usage: %s main|sidekick|prestart|poststop\n", argv[0]);
    return 64;
}
