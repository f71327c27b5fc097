/* The loop of a load program: one epoll for its sockets and for the commands that come on stdin, a line each. */
#ifndef COMMANDS_H
#define COMMANDS_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define COMMANDS UINT64_MAX /* the tag of stdin */

static int poller;

static void await(int fd, uint32_t events, uint64_t tag) {
    struct epoll_event e = {.events = events, .data.u64 = tag};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &e)) epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static void await_commands(void) {
    poller = epoll_create1(0);
    await(0, EPOLLIN, COMMANDS);
    setvbuf(stdout, 0, _IOLBF, 0);
}

static void hear_commands(void (*obey)(char *)) { /* the end of stdin is the end */
    static char line[4096];
    static size_t filled;
    ssize_t got = read(0, line + filled, sizeof line - 1 - filled);
    if (got <= 0) exit(0);
    line[filled += got] = 0;
    for (char *end; (end = strchr(line, '\n'));) {
        *end = 0;
        obey(line);
        memmove(line, end + 1, filled -= end + 1 - line);
        line[filled] = 0;
    }
}
#endif
