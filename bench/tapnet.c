// A switch between network namespaces for kernels without netem: every frame is delayed, and each
// port is a full-duplex link of a given rate.
//
//     bench_tapnet DELAY_US RATE_MBIT NAMESPACE ...
//
// makes a TAP device e0 in each namespace (under /run/netns), prints "ready" and forwards frames
// until SIGTERM. Addresses are the caller's business. Needs root. A frame occupies the sender's
// link for its length, travels for the delay, and occupies the receiver's link; a full queue drops
// it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PORTS = 32, QUEUE = 8192, FRAME_BYTES = 1600, MAC_BYTES = 6, BURST = 64, MACS = 256 };
static const int64_t SECOND_NS = 1000000000;

typedef struct Frame {
    int64_t due;  // ns; ascending in a queue
    size_t bytes;
    unsigned char data[FRAME_BYTES];
} Frame;

typedef struct Port {
    int fd;
    Frame *queue;  // to be written to fd
    unsigned head, tail;
    int64_t in_busy, out_busy;  // until when its link is occupied, from and to the host
} Port;

typedef struct Switch {
    Port ports[MAX_PORTS];
    struct pollfd polls[MAX_PORTS];
    int count;
    int64_t delay;
    double ns_a_byte;
    struct {
        unsigned char mac[MAC_BYTES];
        int port;
    } seen[MACS];
    int seen_count;
} Switch;

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

// ---- ports -------------------------------------------------------------------------------------

static void enter(int namespace, const char *what) {
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0) fail(what);
}

// A TAP device lives in the namespace in which it is made; its descriptor works from anywhere.
static int tap_open(const char *namespace, int home) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int there = open(path, O_RDONLY);
    enter(there, path);
    close(there);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strcpy(request.ifr_name, "e0");
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) fail("/dev/net/tun");
    enter(home, "the caller's namespace");
    return fd;
}

static void port_open(Switch *s, const char *namespace, int home) {
    Port *p = &s->ports[s->count];
    p->fd = tap_open(namespace, home);
    p->queue = calloc(QUEUE, sizeof *p->queue);
    if (p->queue == NULL) fail("memory");
    s->polls[s->count++] = (struct pollfd){.fd = p->fd, .events = POLLIN};
}

// ---- frames ------------------------------------------------------------------------------------

// The port behind an address, -1: unknown or all.
static int port_of(const Switch *s, const unsigned char *mac) {
    for (int i = 0; i < s->seen_count; i++) {
        if (memcmp(s->seen[i].mac, mac, MAC_BYTES) == 0) return s->seen[i].port;
    }
    return -1;
}

static void learn(Switch *s, const unsigned char *mac, int port) {
    if (s->seen_count == MACS || port_of(s, mac) >= 0) return;
    memcpy(s->seen[s->seen_count].mac, mac, MAC_BYTES);
    s->seen[s->seen_count++].port = port;
}

// When a link that takes `bytes` from `start` at the earliest is done with them.
static int64_t occupy(const Switch *s, int64_t *busy, int64_t start, size_t bytes) {
    *busy = (*busy > start ? *busy : start) + (int64_t)((double)bytes * s->ns_a_byte);
    return *busy;
}

static void port_push(Switch *s, Port *p, const unsigned char *data, size_t bytes,
                      int64_t arrives) {
    if (p->tail - p->head >= QUEUE) return;
    Frame *f = &p->queue[p->tail++ % QUEUE];
    f->due = occupy(s, &p->out_busy, arrives, bytes);
    f->bytes = bytes;
    memcpy(f->data, data, bytes);
}

static void port_read(Switch *s, int from) {
    unsigned char data[FRAME_BYTES];
    int64_t now = now_ns();
    for (int i = 0; i < BURST; i++) {
        ssize_t n = read(s->ports[from].fd, data, sizeof data);
        if (n < 2 * MAC_BYTES) return;
        size_t bytes = (size_t)n;
        int to = port_of(s, data);
        learn(s, data + MAC_BYTES, from);
        int64_t arrives = occupy(s, &s->ports[from].in_busy, now, bytes) + s->delay;
        for (int p = 0; p < s->count; p++) {
            if (p != from && (to < 0 || to == p)) port_push(s, &s->ports[p], data, bytes, arrives);
        }
    }
}

// Hands over what is due; returns when the next frame is, at most `next`.
static int64_t port_write(Port *p, int64_t now, int64_t next) {
    for (; p->head != p->tail; p->head++) {
        const Frame *f = &p->queue[p->head % QUEUE];
        if (f->due > now) return f->due < next ? f->due : next;
        if (write(p->fd, f->data, f->bytes) < 0) continue;  // the host's queue is full: lost
    }
    return next;
}

static void forward(Switch *s) {
    while (!stop) {
        int64_t now = now_ns(), next = now + SECOND_NS;
        for (int i = 0; i < s->count; i++) next = port_write(&s->ports[i], now, next);
        struct timespec wait = {(next - now) / SECOND_NS, (next - now) % SECOND_NS};
        if (ppoll(s->polls, (nfds_t)s->count, &wait, NULL) <= 0) continue;
        for (int i = 0; i < s->count; i++) {
            if (s->polls[i].revents & POLLIN) port_read(s, i);
        }
    }
}

int main(int argc, char **argv) {
    static Switch s;
    if (argc < 4 || argc - 3 > MAX_PORTS) {
        fprintf(stderr, "usage: bench_tapnet DELAY_US RATE_MBIT NAMESPACE ...\n");
        return 64;
    }
    s.delay = (int64_t)(atof(argv[1]) * 1e3);
    s.ns_a_byte = atof(argv[2]) > 0 ? 8e3 / atof(argv[2]) : 0;
    int home = open("/proc/self/ns/net", O_RDONLY);
    for (int i = 3; i < argc; i++) port_open(&s, argv[i], home);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    puts("ready");
    fflush(stdout);
    forward(&s);
    return 0;
}
