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
#include "commands.h"
#include <sys/ioctl.h>

static struct client *clients;
static int count;

static void take(struct client *c, const char *data, size_t size) { look(&c->check, data, size); }

/* Throw away unread what is the stream's, but for its last lines: they show whether anything is missing before them.
 * Copying all of it would make the watchers' processor the limit, and not the server's.  One of each console reads all. */
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
        if (*line == 's') await(c->fd, 0, i);
        if (*line == 'g') await(c->fd, EPOLLIN, i);
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
    await_commands();
    double start = now();
    for (;;) {
        while (begun < count && begun - ready < window) {
            struct client *c = clients + begun;
            char name[16];
            snprintf(name, sizeof name, "n%05d", from + begun % (to - from));
            begin(c, kind, argc > 8 ? argv[8] : "/", name, 0);
            c->check.thorough = begun < to - from; /* one of each console */
            if (c->closed) return fprintf(stderr, "watcher %d is refused: %s\n", begun, strerror(errno)), 1;
            await(c->fd, EPOLLIN | EPOLLOUT, begun++);
        }
        if (ready == count && !said++)
            printf("{\"ready\": %d, \"t\": %.6f, \"seconds\": %.6f}\n", ready, now(), now() - start);
        struct epoll_event found[256];
        int n = epoll_wait(poller, found, 256, -1);
        for (int i = 0; i < n; i++) {
            uint64_t which = found[i].data.u64;
            if (which == COMMANDS) {
                hear_commands(obey);
                continue;
            }
            struct client *c = clients + which;
            if (c->ready) {
                read_some(c);
            } else {
                advance(c, take);
                if (c->closed) return fprintf(stderr, "watcher %d is refused\n", (int)which), 1;
                await(c->fd, c->dialling ? EPOLLIN | EPOLLOUT : EPOLLIN, which); /* it may dial again, elsewhere */
                ready += c->ready;
#ifdef TLS
                if (c->ready && c->ssl) read_some(c); /* what OpenSSL has read already */
#endif
            }
            if (c->closed) epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, 0);
        }
    }
}
