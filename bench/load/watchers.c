/* watchers KIND PORT FROM TO EACH WINDOW [tls] [PATH] [HEADERS]: clients that read, EACH of the consoles FROM up to TO.
 *
 * At most WINDOW of them come in at the same time.  Says {"ready": ...} when all are in, then obeys stdin, each command
 * answered by one line of JSON:
 *
 *     mark A B     what watchers A up to B have: bytes, the least and the most of one; lost, repeated, foreign, closed
 *     stall A B    they read no more            go A B    they read again
 *     firsts       how many have a byte of their console, and how long after they dialled
 */
#include "client.h"
#include <sys/ioctl.h>

static struct client *clients;
static int count, poller;

static void take(struct client *c, const char *data, size_t size) { look(&c->check, data, size); }

static void watch(int i, int events) {
    struct epoll_event e = {.events = events, .data.u32 = i};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, clients[i].fd, &e)) epoll_ctl(poller, EPOLL_CTL_ADD, clients[i].fd, &e);
}

/* Throw away unread what is the stream's, but for its last lines: they show whether anything is missing before them.
 * Copying all of it would make the watchers' processor the limit, and not the server's.  The first watcher reads all. */
static void hurry(struct client *c) {
    int there = 0;
    if (c->check.thorough || !c->check.begun || c->check.holds || ioctl(c->fd, FIONREAD, &there)) return;
    if (*c->kind == 'w') {
        if (c->opcode > 2) return;
        if ((uint64_t)there > c->left) there = c->left;
    }
    if (there < (int)(16 * LINE)) return;
    ssize_t n = recv(c->fd, 0, there - 4 * LINE, MSG_TRUNC | MSG_DONTWAIT);
    if (n <= 0) return;
    skip(&c->check, n);
    c->got += n;
    if (*c->kind == 'w') c->left -= n;
}

static void read_some(struct client *c) {
    static char data[1 << 16];
    size_t size = c->check.thorough ? sizeof data : sizeof data / 8;
    for (int i = 0; i < 16 && !c->closed; i++) {
        ssize_t n = get(c, data, size);
        if (n == 0) c->closed = 1;
        if (n <= 0) return;
        unwrap(c, data, n, take);
#ifdef TLS
        if (c->ssl) continue; /* it gives 16 KiB at most */
#endif
        if ((size_t)n < size) return;
        hurry(c);
    }
}

static int by_size(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static void percentiles(void) {
    double *waits = malloc(sizeof *waits * (count + 1));
    int n = 0;
    for (int i = 0; i < count; i++)
        if (clients[i].first) waits[n++] = clients[i].first - clients[i].asked;
    qsort(waits, n, sizeof *waits, by_size);
    if (!n) waits[0] = 0;
    printf("{\"firsts\": %d, \"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f}\n", n, waits[n / 2], waits[n * 99 / 100],
           waits[n ? n - 1 : 0]);
    free(waits);
}

static void obey(char *line) {
    int from = 0, to = count;
    if (!strncmp(line, "firsts", 6)) {
        percentiles();
        return;
    }
    char *rest = strchr(line, ' ');
    if (rest) sscanf(rest, "%d %d", &from, &to);
    uint64_t bytes = 0, least = UINT64_MAX, most = 0, lost = 0, again = 0, foreign = 0, payload = 0;
    int closed = 0;
    for (int i = from; i < to; i++) {
        struct client *c = clients + i;
        if (*line == 's') watch(i, 0);
        if (*line == 'g') watch(i, EPOLLIN);
        bytes += c->check.good, lost += c->check.lost, again += c->check.again, foreign += c->check.foreign, payload += c->got;
        if (c->check.good < least) least = c->check.good;
        if (c->check.good > most) most = c->check.good;
        closed += c->closed;
    }
    printf("{\"t\": %.6f, \"bytes\": %lu, \"least\": %lu, \"most\": %lu, \"lost\": %lu, \"again\": %lu, \"foreign\": %lu, "
           "\"payload\": %lu, \"closed\": %d, \"cpu\": %.6f}\n", now(), bytes, least, most, lost, again, foreign, payload, closed, cpu());
}

int main(int argc, char **argv) {
    if (argc < 7) return 2;
    const char *kind = argv[1];
    int from = atoi(argv[3]), to = atoi(argv[4]), each = atoi(argv[5]), window = atoi(argv[6]), begun = 0, ready = 0, said = 0;
    setup(argv[2], argc > 7 && !strcmp(argv[7], "tls"));
    if (argc > 9) extra_headers = argv[9];
    count = (to - from) * each;
    clients = calloc(count, sizeof *clients);
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e);
    setvbuf(stdout, 0, _IOLBF, 0);
    double start = now();
    char line[256];
    size_t filled = 0;
    for (;;) {
        while (begun < count && begun - ready < window) {
            struct client *c = clients + begun;
            char name[16];
            snprintf(name, sizeof name, "n%05d", from + begun % (to - from));
            begin(c, kind, argc > 8 ? argv[8] : "/", name, 0);
            c->check.thorough = begun == 0;
            if (c->closed) return fprintf(stderr, "watcher %d is refused: %s\n", begun, strerror(errno)), 1;
            watch(begun++, EPOLLIN | EPOLLOUT);
        }
        if (ready == count && !said++)
            printf("{\"ready\": %d, \"t\": %.6f, \"seconds\": %.6f}\n", ready, now(), now() - start);
        struct epoll_event found[256];
        int n = epoll_wait(poller, found, 256, -1);
        for (int i = 0; i < n; i++) {
            if (found[i].data.u32 == UINT32_MAX) {
                ssize_t got = read(0, line + filled, sizeof line - 1 - filled);
                if (got <= 0) return 0;
                line[filled += got] = 0;
                for (char *end; (end = strchr(line, '\n'));) {
                    *end = 0;
                    obey(line);
                    memmove(line, end + 1, filled -= end + 1 - line);
                    line[filled] = 0;
                }
                continue;
            }
            struct client *c = clients + found[i].data.u32;
            if (c->ready) {
                read_some(c);
            } else {
                if (c->dialling) {
                    connected(c);
                    watch(c - clients, EPOLLIN);
                }
                if (!c->closed && !c->ready) come_in(c);
                if (c->dialling) watch(c - clients, EPOLLIN | EPOLLOUT); /* again, elsewhere */
                if (c->closed) return fprintf(stderr, "watcher %d is refused\n", (int)(c - clients)), 1;
                ready += c->ready;
                if (c->ready && c->says) unwrap(c, c->said, c->says, take);
#ifdef TLS
                if (c->ready && c->ssl) read_some(c); /* what OpenSSL has read already */
#endif
            }
            if (c->closed) epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, 0);
        }
    }
}
