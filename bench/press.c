/* Presses a server with GETs over kept-alive connections: press PORT CONNECTIONS SECONDS RATE.
 *
 * RATE 0 is a closed loop: each connection sends the next request when it has its answer (for CPU per request).
 * Otherwise RATE requests a second are due at fixed instants, and latency counts from there (for p50 and p99); a
 * request that is due while every connection is busy waits, and its latency goes on counting. Prints one line of JSON.
 * C, because on a machine with two cores a generator in Python would be the bottleneck of what it measures. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define MICROSECONDS_MAX 2000000
static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: press\r\nAccept: */*\r\n\r\n";

struct connection {
    int socket;
    int busy;
    long expected; /* bytes of the answer that are still to come; -1 while its head is incomplete */
    double due_at;
    size_t held;
    char head[8192];
};

static struct connection connections[CONNECTIONS_MAX];
static uint32_t histogram[MICROSECONDS_MAX + 1];
static long answered, failed, waiting, due_count, due_answered;
static double rate, begun_at;
static int port, poller;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void open_connection(struct connection *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) {
        perror("press: connect");
        exit(1);
    }
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->busy = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, c->socket, &event);
}

static void send_request(struct connection *c, double due_at)
{
    c->busy = 1;
    c->expected = -1;
    c->held = 0;
    c->due_at = due_at;
    if (send(c->socket, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        exit(1);
}

static void next_request(struct connection *c)
{
    if (rate == 0)
        send_request(c, now());
    else if (waiting > 0) {
        waiting--;
        send_request(c, begun_at + ++due_answered / rate);
    }
}

static void lost(struct connection *c)
{
    failed += c->busy;
    close(c->socket);
    open_connection(c);
    next_request(c);
}

/* The length of the whole answer, once its head is complete; -1 before. */
static long whole_size(struct connection *c)
{
    c->head[c->held] = 0;
    char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\ncontent-length:");
    if (!end)
        return -1;
    if (strncmp(c->head + 8, " 200", 4))
        failed++;
    if (!length || length > end) {
        fprintf(stderr, "press: an answer without Content-Length\n");
        exit(1);
    }
    return (end + 4 - c->head) + atol(length + 17);
}

static void receive(struct connection *c)
{
    char spare[65536];
    int in_head = c->expected < 0;
    ssize_t size = in_head ? recv(c->socket, c->head + c->held, sizeof c->head - 1 - c->held, MSG_DONTWAIT)
                           : recv(c->socket, spare, sizeof spare, MSG_DONTWAIT);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            lost(c);
        return;
    }
    if (in_head) {
        c->held += size;
        long whole = whole_size(c);
        if (whole < 0)
            return;
        c->expected = whole - (long)c->held;
    } else
        c->expected -= size;
    if (c->expected > 0)
        return;
    long microseconds = (long)((now() - c->due_at) * 1e6);
    histogram[microseconds > MICROSECONDS_MAX ? MICROSECONDS_MAX : microseconds]++;
    answered++;
    c->busy = 0;
    next_request(c);
}

static void send_due(int timer, int count)
{
    uint64_t expired;
    if (read(timer, &expired, sizeof expired) < 0)
        return;
    due_count += expired;
    waiting += expired;
    for (int i = 0; i < count && waiting > 0; i++)
        if (!connections[i].busy)
            next_request(&connections[i]);
}

static int start_timer(void)
{
    struct itimerspec setting = {0};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    double period = 1 / rate, first = begun_at + period;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    setting.it_interval.tv_nsec = period * 1e9;
    setting.it_value.tv_sec = first;
    setting.it_value.tv_nsec = (first - (long)first) * 1e9;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &setting, NULL);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    return timer;
}

static long quantile(double share)
{
    double rank = answered * share, seen = 0;
    for (long i = 0; i <= MICROSECONDS_MAX; i++)
        if ((seen += histogram[i]) >= rank && seen > 0)
            return i;
    return MICROSECONDS_MAX;
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];
    if (argc != 5 || atoi(argv[2]) > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: press PORT CONNECTIONS SECONDS RATE\n");
        return 2;
    }
    int count = atoi(argv[2]), timer = -1;
    double seconds = atof(argv[3]);
    port = atoi(argv[1]);
    rate = atof(argv[4]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++)
        open_connection(&connections[i]);
    begun_at = now();
    if (rate > 0)
        timer = start_timer();
    else
        for (int i = 0; i < count; i++)
            send_request(&connections[i], begun_at);
    while (now() < begun_at + seconds) {
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                receive(events[i].data.ptr);
            else
                send_due(timer, count);
    }
    printf("{\"answered\": %ld, \"failed\": %ld, \"unsent\": %ld, \"seconds\": %.6f, \"p50_us\": %ld, \"p99_us\": %ld, "
           "\"max_us\": %ld}\n", answered, failed, waiting, now() - begun_at, quantile(0.5), quantile(0.99), quantile(1));
    return 0;
}
