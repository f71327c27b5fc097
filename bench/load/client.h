/* A client of any of the servers: how it comes in, and which of the bytes that it reads are the console's.
 *
 * ws         consoled: an upgrade request for PATH, then text messages (RFC 6455)
 * conman     ConMan: HELLO, then MONITOR or CONNECT, then plain bytes
 * conserver  conserver: its master names the port of the console's group; there again, and "\5c;" to begin
 * plain      the relay: nothing to say
 */
#ifndef CLIENT_H
#define CLIENT_H
#include "stream.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
static SSL_CTX *tls;
#endif

struct client {
    int fd, dialling, step, ready, closed, typing;
    const char *kind, *path; /* path: the request's, for ws */
    char console[64];
    double asked, opened, first; /* when it dialled, was in, and got a byte of the console */
    char said[2048];             /* the server's answer so far */
    size_t says;
    unsigned char head[10];
    size_t heads;
    uint64_t left; /* of the message that is being read */
    int opcode;
    uint64_t got;  /* bytes of the console */
    struct check check;
#ifdef TLS
    SSL *ssl;
#endif
};

static const char *extra_headers = "";
static int master_port;

static void put(struct client *c, const void *data, size_t size) {
#ifdef TLS
    if (c->ssl) {
        if (SSL_write(c->ssl, data, size) <= 0) c->closed = 1;
        return;
    }
#endif
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) c->closed = 1;
}

/* -1: nothing now; 0: it has ended */
static ssize_t get(struct client *c, char *data, size_t size) {
#ifdef TLS
    if (c->ssl) {
        int n = SSL_read(c->ssl, data, size), why = n > 0 ? 0 : SSL_get_error(c->ssl, n);
        return n > 0 ? n : why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
#endif
    ssize_t n = recv(c->fd, data, size, MSG_DONTWAIT);
    return n < 0 && errno != EAGAIN ? 0 : n;
}

static void dial(struct client *c, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->dialling = 1;
    if (connect(c->fd, (struct sockaddr *)&at, sizeof at) && errno != EINPROGRESS) c->closed = 1;
}

static void tell(struct client *c, const char *format) {
    char text[1024];
    int n = snprintf(text, sizeof text, format, c->console);
    put(c, text, n);
}

static void begin(struct client *c, const char *kind, const char *path, const char *console, int typing) {
    *c = (struct client){.kind = kind, .path = path, .typing = typing, .asked = now()};
    snprintf(c->console, sizeof c->console, "%s", console);
    dial(c, master_port);
}

/* The socket is connected (it can be written): say what there is to say first. */
static void connected(struct client *c) {
    int why = 0;
    socklen_t size = sizeof why;
    c->dialling = 0;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &size);
    if (why) {
        c->closed = 1;
        return;
    }
#ifdef TLS
    if (tls) { /* the handshake is waited for: one client after the other */
        fcntl(c->fd, F_SETFL, 0);
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        if (SSL_connect(c->ssl) != 1) c->closed = 1;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
    }
#endif
    if (*c->kind == 'w') {
        char request[2048];
        int n = snprintf(request, sizeof request,
                         "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n",
                         c->path, c->console, extra_headers);
        put(c, request, n);
    } else if (!strcmp(c->kind, "conman")) {
        tell(c, "HELLO USER='bench' TTY='none'\n");
    } else if (*c->kind == 'p') {
        c->ready = 1;
        c->opened = now();
    }
}

/* One whole answer has come, `end` bytes of it: what to say next. */
static void answered(struct client *c, size_t end) {
    int step = c->step++, in = 0, port = 0;
    c->said[end - 1] = 0;
    if (*c->kind == 'w') {
        in = 1;
        c->closed = strncmp(c->said, "HTTP/1.1 101", 12) != 0;
    } else if (!strcmp(c->kind, "conman")) {
        c->closed = strncmp(c->said, "OK", 2) != 0;
        if (step == 0) tell(c, c->typing ? "CONNECT CONSOLE='%s'\n" : "MONITOR CONSOLE='%s'\n");
        else in = 1;
    } else if (step == 0 || step == 3) {
        tell(c, "login bench\r\n");
    } else if (step == 1 || step == 4) {
        tell(c, "call %s\r\n"); /* a second client of a console only watches */
    } else if (step == 2) {
        port = atoi(c->said);
    } else if (step == 5) {
        put(c, "\5c;", 3);
    } else {
        in = 1;
    }
    if (c->closed) fprintf(stderr, "%s: %.200s\n", c->console, c->said);
    memmove(c->said, c->said + end, c->says -= end);
    if (port) {
        close(c->fd);
        c->says = 0;
        dial(c, port);
    }
    if (in) {
        c->ready = 1;
        c->opened = now();
    }
}

/* While it is not ready: read, and answer what is complete.  Afterwards what is left in `said` is the console's. */
static void come_in(struct client *c) {
    const char *mark = *c->kind == 'w' ? "\r\n\r\n" : "\n";
    ssize_t n = get(c, c->said + c->says, sizeof c->said - 1 - c->says);
    if (n == 0) c->closed = 1;
    if (n <= 0) return;
    c->says += n;
    for (char *end; !c->ready && !c->closed;) {
        c->said[c->says] = 0;
        if (!(end = strstr(c->said, mark))) break;
        answered(c, end + strlen(mark) - c->said);
    }
}

static void pong(struct client *c) { /* without what the ping said: autobahn takes any sign of life */
    put(c, "\x8a\x80\0\0\0\0", 6);
}

/* The console's bytes in `data`, handed on piece by piece to `take`. */
static void unwrap(struct client *c, const char *data, size_t size, void (*take)(struct client *, const char *, size_t)) {
    if (*c->kind != 'w') {
        if (!c->first) c->first = now();
        c->got += size;
        take(c, data, size);
        return;
    }
    while (size) {
        if (c->left) {
            size_t n = size < c->left ? size : c->left;
            if (c->opcode <= 2) {
                if (!c->first) c->first = now();
                c->got += n;
                take(c, data, n);
            }
            c->left -= n, data += n, size -= n;
            continue;
        }
        c->head[c->heads++] = *data++, size--;
        size_t more = c->heads < 2 ? 0 : (c->head[1] & 127) == 127 ? 8 : (c->head[1] & 127) == 126 ? 2 : 0;
        if (c->heads < 2 || c->heads < 2 + more) continue;
        c->left = more ? 0 : c->head[1] & 127;
        for (size_t i = 0; i < more; i++) c->left = c->left << 8 | c->head[2 + i];
        c->opcode = c->head[0] & 15;
        c->heads = 0;
        if (c->opcode == 8) c->closed = 1;
        if (c->opcode == 9) pong(c);
    }
}

/* Something has come, or it is connected: go on coming in.  What is the console's already goes to `take`. */
static void advance(struct client *c, void (*take)(struct client *, const char *, size_t)) {
    if (c->dialling) connected(c);
    if (!c->closed && !c->ready) come_in(c);
    if (c->ready && c->says) unwrap(c, c->said, c->says, take);
}

/* Keys for the console. */
static inline void type(struct client *c, const char *keys, size_t size) {
    if (*c->kind != 'w') {
        put(c, keys, size);
        return;
    }
    char frame[64] = {(char)0x82, (char)(0x80 | size)}; /* binary, masked with zeros */
    memcpy(frame + 6, keys, size);
    put(c, frame, size + 6);
}

static int by_size(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static void setup(const char *port, int with_tls) {
    master_port = atoi(port);
    make_block();
    (void)with_tls;
#ifdef TLS
    if (with_tls) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls, SSL_MODE_AUTO_RETRY);
    }
#endif
}
#endif
