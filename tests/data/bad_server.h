// An HTTP server on the loopback interface that misbehaves on purpose: every path is one bad habit.
// One thread, one connection at a time, "Connection: close" always. It counts connections and
// remembers the last Range.
#pragma once

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_BYTES = 100003 };

typedef struct BadServer {
    int listener, port;
    pthread_t thread;
    atomic_int requests, stop;
    long last_range;  // first byte asked for, 0 = no Range
    char body[BODY_BYTES];
} BadServer;

static void send_all(int fd, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n <= 0) return;
        data += n;
        bytes -= (size_t)n;
    }
}

// Head and the bytes [from, to) of the body; `length` is what Content-Length claims.
static void answer(BadServer *s, int fd, const char *status, const char *extra, size_t length,
                   size_t from, size_t to) {
    char head[512];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status,
                     length, extra);
    send_all(fd, head, (size_t)n);
    send_all(fd, s->body + from, to - from);
}

// The file as it should be sent, from byte `range` on, but only up to byte `to`.
static void answer_file(BadServer *s, int fd, size_t range, size_t to) {
    char extra[128] = "";
    if (range > 0) {
        snprintf(extra, sizeof extra, "Content-Range: bytes %zu-%d/%d\r\n", range, BODY_BYTES - 1,
                 BODY_BYTES);
    }
    answer(s, fd, range > 0 ? "206 Partial Content" : "200 OK", extra, BODY_BYTES - range, range,
           to < range ? range : to);
}

static void drip(int fd) {
    const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100003\r\n\r\n";
    send_all(fd, head, sizeof head - 1);
    for (int i = 0; i < 30; i++) {
        send_all(fd, "x", 1);
        usleep(100000);
    }
}

static void serve_path(BadServer *s, int fd, const char *path, int number, size_t range) {
    bool first = number == 1;
    if (strcmp(path, "/good") == 0) {
        answer_file(s, fd, range, BODY_BYTES);
    } else if (strcmp(path, "/cut") == 0) {  // a third more each time
        answer_file(s, fd, range,
                    (size_t)number * BODY_BYTES / 3 + 1 > BODY_BYTES
                        ? BODY_BYTES
                        : (size_t)number * BODY_BYTES / 3 + 1);
    } else if (strcmp(path, "/norange") == 0) {  // cut once, later whole whatever is asked
        answer_file(s, fd, 0, first ? BODY_BYTES / 2 : BODY_BYTES);
    } else if (strcmp(path, "/busy") == 0) {
        if (number <= 2) {
            answer(s, fd, "503 Service Unavailable", "Retry-After: 1\r\n", 5, 0, 5);
        } else {
            answer_file(s, fd, range, BODY_BYTES);
        }
    } else if (strcmp(path, "/missing") == 0) {
        answer(s, fd, "404 Not Found", "", 5, 0, 5);
    } else if (strcmp(path, "/loop") == 0) {
        answer(s, fd, "302 Found", "Location: /loop\r\n", 0, 0, 0);
    } else if (strcmp(path, "/tofile") == 0) {
        answer(s, fd, "302 Found", "Location: file:///etc/passwd\r\n", 0, 0, 0);
    } else if (strcmp(path, "/short") == 0) {  // complete, but too small
        answer(s, fd, "200 OK", "", 1000, 0, 1000);
    } else if (strcmp(path, "/wrong") == 0) {  // the right size, other bytes
        answer(s, fd, "200 OK", "", BODY_BYTES, 1, BODY_BYTES);
        send_all(fd, "?", 1);
    } else if (strcmp(path, "/endless") == 0) {
        answer(s, fd, "200 OK", "", 1 << 30, 0, BODY_BYTES);
        for (int i = 0; i < 20; i++) send_all(fd, s->body, BODY_BYTES);
    } else if (strcmp(path, "/drip") == 0) {
        drip(fd);
    }  // anything else: the connection is closed without a word
}

static void serve_one(BadServer *s, int fd) {
    char request[4096];
    size_t have = 0;
    while (have < sizeof request - 1) {
        ssize_t n = recv(fd, request + have, sizeof request - 1 - have, 0);
        if (n <= 0) return;
        have += (size_t)n;
        request[have] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL) break;
    }
    char path[256] = "";
    // A proxy is asked for whole addresses: "GET http://host/path".
    if (sscanf(request, "GET http://%*[^/]%255s", path) != 1) sscanf(request, "GET %255s", path);
    const char *range = strstr(request, "Range: bytes=");
    s->last_range = range == NULL ? 0 : strtol(range + 13, NULL, 10);
    int number = atomic_fetch_add(&s->requests, 1) + 1;
    serve_path(s, fd, path, number, (size_t)s->last_range);
}

static void *serve(void *user) {
    BadServer *s = user;
    while (!atomic_load(&s->stop)) {
        struct pollfd p = {s->listener, POLLIN, 0};
        if (poll(&p, 1, 20) <= 0) continue;
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0) continue;
        serve_one(s, fd);
        shutdown(fd, SHUT_RDWR);
        close(fd);
    }
    return NULL;
}

static void server_open(BadServer *s) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < BODY_BYTES; i++) s->body[i] = (char)(i * 2654435761u >> 13);
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    cr_assert_eq(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(s->listener, 8), 0);
    cr_assert_eq(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_close(BadServer *s) {
    atomic_store(&s->stop, 1);
    pthread_join(s->thread, NULL);
    close(s->listener);
}
