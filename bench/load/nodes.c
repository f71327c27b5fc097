/* nodes PORT COUNT: simulated nodes, each a listener on PORT of its own loopback address 127.1.x.y.
 *
 * Console number i is the node at 127.1.(i / 256).(i % 256).  A node gives back the letters that are typed to it, and
 * says the stream when it is told to.  Commands on stdin, each answered by one line of JSON:
 *
 *     flood A B            nodes A up to B (not included) say as much as is taken
 *     pace A B RATE BURST TICK  each says RATE bytes a second, BURST lines at once, no two nodes at the same time;
 *                          or, with a TICK, all that are due since the last one every TICK milliseconds
 *     still A B            they end with their line
 *     count A B            the bytes that each of them has said
 *     mark                 how many are connected, and since when; bytes said, bytes not taken yet, processor time
 */
#include "stream.h"
#include "commands.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define PIECE 65536
#define AHEAD (64 << 20) /* bytes that wait in the kernel for the server, of all nodes together: the real ones have little */
#define GROUPS 8
#define ALARM (COMMANDS - 1)

struct node {
    int listener, fd, watching, flooding;
    uint32_t at;
    uint64_t said, owed; /* owed: bytes of its pace that the server has not taken */
};
struct group {
    int from, to;
    double interval, began, tick; /* seconds; interval: between two bursts of all its nodes together */
    uint64_t done;
    uint32_t burst;
};

static struct node *nodes;
static struct group groups[GROUPS];
static int count, up;
static double first_up, last_up;

static void watch(struct node *n, int events) {
    if (n->fd < 0 || n->watching == events) return;
    await(n->fd, events, (uint64_t)(n - nodes) << 1 | 1);
    n->watching = events;
}

static ssize_t say(struct node *n, size_t size) {
    ssize_t sent = send(n->fd, block + n->at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
        n->at = (n->at + sent) % PERIOD;
        n->said += sent;
    }
    return sent;
}

static void speak(struct node *n) { /* as much as the server takes of what it has to say */
    if (n->fd < 0) return;
    if (n->flooding) {
        say(n, PIECE);
        return;
    }
    while (n->owed) {
        ssize_t sent = say(n, n->owed < PIECE ? n->owed : PIECE);
        if (sent <= 0) break;
        n->owed -= sent;
    }
    watch(n, n->owed ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void gone(struct node *n) {
    close(n->fd);
    n->fd = -1;
    n->owed = 0;
    up--;
}

static void welcome(struct node *n) {
    int fd = accept4(n->listener, 0, 0, SOCK_NONBLOCK), one = 1, ahead = AHEAD / count;
    if (fd < 0) return;
    if (n->fd >= 0) gone(n);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (ahead < 1 << 20) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &ahead, sizeof ahead); /* else the kernel's own limit */
    n->fd = fd;
    n->watching = 0;
    watch(n, n->flooding ? EPOLLIN | EPOLLOUT : EPOLLIN);
    up++;
    last_up = now();
    if (!first_up) first_up = last_up;
}

static void hear(struct node *n) {
    unsigned char got[4096], back[4096];
    ssize_t size = recv(n->fd, got, sizeof got, 0), kept = 0;
    if (size == 0 || (size < 0 && errno != EAGAIN)) {
        gone(n);
        return;
    }
    for (ssize_t i = 0; i < size; i++)
        if (got[i] >= ' ' && got[i] < 127) back[kept++] = got[i]; /* not telnet's commands */
    if (kept) send(n->fd, back, kept, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void pace(double t, double *due) { /* *due: when to come again */
    for (struct group *g = groups; g < groups + GROUPS; g++) {
        if (!g->burst) continue;
        double spent = t - g->began;
        if (g->tick) spent = (uint64_t)(spent / g->tick) * g->tick;
        uint64_t want = spent / g->interval;
        for (; g->done < want; g->done++) {
            struct node *n = nodes + g->from + g->done % (g->to - g->from);
            if (n->fd < 0) continue;
            n->owed += g->burst * LINE;
            speak(n);
        }
        double next = g->tick ? g->began + spent + g->tick : g->began + (g->done + 1) * g->interval;
        if (!*due || next < *due) *due = next;
    }
}

static void stop(int from, int to) {
    for (struct group *g = groups; g < groups + GROUPS; g++)
        if (g->burst && g->from >= from && g->to <= to) g->burst = 0;
    for (struct node *n = nodes + from; n < nodes + to; n++) {
        if (n->flooding && n->at % LINE) n->owed = LINE - n->at % LINE;
        n->flooding = 0;
        speak(n);
    }
}

static void obey(char *line) {
    int from = 0, to = 0;
    unsigned burst;
    double rate, tick = 0;
    if (sscanf(line, "flood %d %d", &from, &to) == 2) {
        for (int i = from; i < to; i++) {
            nodes[i].flooding = 1;
            watch(nodes + i, EPOLLIN | EPOLLOUT);
        }
    } else if (sscanf(line, "pace %d %d %lf %u %lf", &from, &to, &rate, &burst, &tick) >= 4) {
        struct group *g = groups;
        while (g->burst) g++;
        *g = (struct group){from, to, burst * LINE / rate / (to - from), now(), tick / 1e3, 0, burst};
    } else if (sscanf(line, "still %d %d", &from, &to) == 2) {
        stop(from, to);
    } else if (sscanf(line, "count %d %d", &from, &to) == 2) {
        printf("{\"said\": [");
        for (int i = from; i < to; i++) printf("%s%llu", i > from ? ", " : "", (unsigned long long)nodes[i].said);
        printf("]}\n");
        return;
    }
    unsigned long long said = 0, owed = 0;
    for (int i = 0; i < count; i++) said += nodes[i].said, owed += nodes[i].owed;
    printf("{\"t\": %.6f, \"up\": %d, \"first_up\": %.6f, \"last_up\": %.6f, \"said\": %llu, \"owed\": %llu, \"cpu\": %.6f}\n", now(), up,
           first_up, last_up, said, owed, cpu());
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int port = atoi(argv[1]), one = 1;
    count = atoi(argv[2]);
    nodes = calloc(count, sizeof *nodes);
    await_commands();
    make_block();
    for (int i = 0; i < count; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f010000 + i)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 16)) {
            fprintf(stderr, "node %d cannot listen: %s\n", i, strerror(errno));
            return 1;
        }
        await(fd, EPOLLIN, (uint64_t)i << 1);
        nodes[i].listener = fd;
        nodes[i].fd = -1;
    }
    int alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    await(alarm, EPOLLIN, ALARM);
    printf("{\"listening\": %d}\n", count);
    for (;;) {
        struct epoll_event found[256];
        int n = epoll_wait(poller, found, 256, -1);
        for (int i = 0; i < n; i++) {
            uint64_t what = found[i].data.u64;
            if (what == COMMANDS) {
                hear_commands(obey);
            } else if (what == ALARM) {
                uint64_t times;
                if (read(alarm, &times, sizeof times) < 0) continue;
            } else if (what & 1) {
                struct node *node = nodes + (what >> 1);
                if (node->fd >= 0 && found[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(node);
                if (node->fd >= 0 && found[i].events & EPOLLOUT) speak(node);
            } else {
                welcome(nodes + (what >> 1));
            }
        }
        double due = 0;
        pace(now(), &due);
        struct itimerspec when = {.it_value = {due, (due - (time_t)due) * 1e9}};
        timerfd_settime(alarm, TFD_TIMER_ABSTIME, &when, 0);
    }
}
