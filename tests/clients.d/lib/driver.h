/* What the drivers written in C and C++ share: settings, events, commands. */
#ifndef DRIVER_H
#define DRIVER_H

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOGIN_SECONDS = 120, LOGOUT_SECONDS = 30, STEP_MS = 50 };

/* A setting of the contract, or this if it is not set; without either the driver ends. */
static inline const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    if (value && *value)
        return value;
    if (!otherwise) {
        fprintf(stderr, "%s is not set\n", name);
        exit(2);
    }
    return otherwise;
}

/* The file of the CA, or NULL if there is none. */
static inline const char *ca_file(void) {
    const char *path = setting("XB_CA", "");
    return access(path, R_OK) == 0 ? path : NULL;
}

static inline int tls_is(const char *what) { return strcmp(setting("XB_TLS", "default"), what) == 0; }

/* One event of the contract, on one line. */
static inline void say(const char *event, const char *text) {
    printf("%s%s", event, *text ? " " : "");
    for (; *text; text++)
        putchar(*text == '\n' ? ' ' : *text);
    putchar('\n');
    fflush(stdout);
}

/* Whether this address, with or without a resource, is the peer's. */
static inline int from_peer(const char *address) {
    const char *peer = setting("XB_PEER", NULL);
    size_t length = strlen(peer);
    return address && strncmp(address, peer, length) == 0 && (!address[length] || address[length] == '/');
}

/* The next whole line of standard input within that time: 1; none yet: 0; no more: -1. */
static inline int next_line(char *line, size_t size, int milliseconds) {
    static char kept[16384];
    static size_t filled;
    char *end = (char *)memchr(kept, '\n', filled);
    if (!end) {
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        if (poll(&input, 1, milliseconds) <= 0)
            return 0;
        ssize_t got = filled < sizeof kept ? read(STDIN_FILENO, kept + filled, sizeof kept - filled) : 0;
        if (got <= 0)
            return -1;
        filled += (size_t)got;
        end = (char *)memchr(kept, '\n', filled);
        if (!end)
            return 0;
    }
    size_t length = (size_t)(end - kept);
    snprintf(line, size, "%.*s", (int)length, kept);
    filled -= length + 1;
    memmove(kept, end + 1, filled);
    return 1;
}

/* The text to send, or NULL; `*quit` is set when it is time to log out. */
static inline const char *next_command(int milliseconds, int *quit) {
    static char line[16384];
    int found = next_line(line, sizeof line, milliseconds);
    if (found < 0 || (found > 0 && strcmp(line, "quit") == 0))
        *quit = 1;
    return found > 0 && strncmp(line, "send ", 5) == 0 ? line + 5 : NULL;
}

#endif
