/* typist KIND PORT CONSOLE COUNT INTERVAL [tls] [PATH] [HEADERS]: somebody who types and waits for each key to come back.
 *
 * INTERVAL is in microseconds, between an echo and the next key, and varies by half.  One line of JSON: how long the
 * echoes took, in seconds.  A key that does not come back within two seconds is counted as missing.
 */
#include "client.h"
#include <poll.h>

static char wanted;
static int seen;

static void take(struct client *c, const char *data, size_t size) {
    (void)c;
    if (wanted && memchr(data, wanted, size)) seen = 1;
}

static int hear(struct client *c, int patience) { /* milliseconds; 0 if there was nothing */
    static char data[65536];
#ifdef TLS
    if (!(c->ssl && SSL_pending(c->ssl)))
#endif
    {
        struct pollfd p = {c->fd, c->dialling ? POLLOUT : POLLIN, 0};
        if (poll(&p, 1, patience) <= 0) return 0;
    }
    if (!c->ready) {
        advance(c, take);
        return 1;
    }
    ssize_t n = get(c, data, sizeof data);
    if (n == 0) c->closed = 1;
    if (n > 0) unwrap(c, data, n, take);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int count = atoi(argv[4]), interval = atoi(argv[5]), n = 0, missing = 0;
    struct client c;
    double *waits = calloc(count + 1, sizeof *waits);
    setup(argv[2], argc > 6 && !strcmp(argv[6], "tls"));
    if (argc > 8) extra_headers = argv[8];
    begin(&c, argv[1], argc > 7 ? argv[7] : "/", argv[3], 1);
    while (!c.ready && !c.closed)
        if (!hear(&c, 5000)) return fprintf(stderr, "no answer\n"), 1;
    while (!c.closed && hear(&c, 100)) continue; /* the greetings */
    for (int i = 0; i < count && !c.closed && missing < 5; i++) {
        wanted = 'A' + i % 26;
        seen = 0;
        double began = now();
        type(&c, &wanted, 1);
        while (!seen && !c.closed)
            if (!hear(&c, 2000)) break;
        if (seen) waits[n++] = now() - began;
        else missing++;
        usleep(interval / 2 + (unsigned)i * 7919 % (interval + 1));
    }
    qsort(waits, n, sizeof *waits, by_size);
    if (!n) return fprintf(stderr, "%s\n", c.closed ? "the server hung up" : "no key came back"), 1;
    printf("{\"echoes\": %d, \"missing\": %d, \"p50\": %.7f, \"p90\": %.7f, \"p99\": %.7f, \"max\": %.7f}\n", n, missing,
           waits[n / 2], waits[n * 9 / 10], waits[n * 99 / 100], waits[n - 1]);
}
