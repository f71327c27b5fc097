/* relay NODE PORT LISTEN SIZE [LOG]: the yardstick.  Reads SIZE bytes at most from the node, sends them to every client.
 *
 * Nothing else: no accounts, no frames, no log unless LOG names one; a client that does not read holds everybody up.
 * What a client says goes to the node.  It is what any single-threaded server could reach here that reads so much at once.
 */
#include "stream.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    size_t size = atol(argv[4]);
    char *piece = malloc(size);
    int one = 1, node = socket(AF_INET, SOCK_STREAM, 0), door = socket(AF_INET, SOCK_STREAM, 0), clients[4096], count = 0;
    int log = argc > 5 ? open(argv[5], O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &at.sin_addr);
    if (connect(node, (struct sockaddr *)&at, sizeof at)) return perror("node"), 1;
    setsockopt(node, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    at.sin_port = htons(atoi(argv[3]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 1024)) return perror("listen"), 1;
    int poller = epoll_create1(0);
    for (int i = 0; i < 2; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = i ? door : node};
        epoll_ctl(poller, EPOLL_CTL_ADD, e.data.fd, &e);
    }
    for (;;) {
        struct epoll_event found[64];
        int n = epoll_wait(poller, found, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = found[i].data.fd;
            if (fd == door) {
                struct epoll_event e = {.events = EPOLLIN, .data.fd = accept(door, 0, 0)};
                if (e.data.fd < 0 || count == 4096) return 1;
                setsockopt(e.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                epoll_ctl(poller, EPOLL_CTL_ADD, clients[count++] = e.data.fd, &e);
                continue;
            }
            ssize_t got = read(fd, piece, size);
            if (fd == node && got <= 0) return 0;
            if (fd == node) {
                if (log >= 0 && write(log, piece, got) < got) return 1;
                for (int c = 0; c < count; c++)
                    for (ssize_t sent = 0, s; sent < got; sent += s)
                        if ((s = send(clients[c], piece + sent, got - sent, MSG_NOSIGNAL)) < 0) break;
            } else if (got > 0) {
                if (write(node, piece, got) < 0) return 0;
            } else {
                for (int c = 0; c < count; c++)
                    if (clients[c] == fd) clients[c--] = clients[--count];
                close(fd);
            }
        }
    }
}
