/* A server as small as can be: answers every request with 200 "ok", on 127.0.0.1:$PORT (or the first argument).
 *
 * The control bench runs a thousand of them, and the traffic bench uses three as backends, so that neither memory nor
 * the backends are what is measured. One thread, epoll; a request is whatever ends in an empty line (no bodies). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
static unsigned char matched[CONNECTIONS_MAX]; /* how much of CR LF CR LF each connection has shown, by descriptor */

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("tiny: listen");
        exit(1);
    }
    return listener;
}

static void accept_all(int poll, int listener)
{
    int one = 1, client;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
        if (client >= CONNECTIONS_MAX) {
            close(client);
            continue;
        }
        matched[client] = 0;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
    }
}

static void answer(int client)
{
    static const char END[] = "\r\n\r\n";
    char buffer[16384];
    ssize_t size = read(client, buffer, sizeof buffer);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            close(client);
        return;
    }
    for (ssize_t i = 0; i < size; i++) {
        matched[client] = buffer[i] == END[matched[client]] ? matched[client] + 1 : buffer[i] == '\r';
        if (matched[client] < 4)
            continue;
        matched[client] = 0;
        if (send(client, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) {
            close(client);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    const char *port = argc > 1 ? argv[1] : getenv("PORT");
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int poll = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(port ? atoi(port) : 8000);
    event.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < count; i++)
            if (events[i].data.fd == listener)
                accept_all(poll, listener);
            else
                answer(events[i].data.fd);
    }
}
