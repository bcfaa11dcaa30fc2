// Bump allocation inside one anonymous mapping.
#include "base/arena.h"

#include <stdint.h>
#include <sys/mman.h>

enum { ALIGN = 64 };  // a cache line, and a vector of AVX-512
static const size_t HUGE_PAGE = (size_t)2 << 20;

// The smallest multiple of `unit` that is not below n.
static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

Status arena_open(Arena *a, size_t bytes) {
    *a = (Arena){0};
    if (bytes == 0) bytes = ALIGN;
    if (bytes > SIZE_MAX / 2)
        bytes = SIZE_MAX / 2;  // refused below; rounding up must not wrap to 0
    bytes = round_up(bytes, bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGN);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        FAIL(E_NOMEM, "use a smaller model, micro-batch or sequence, or more ranks",
             "cannot reserve %.1f MiB of memory", (double)bytes / 1048576.0);
    }
    if (bytes >= HUGE_PAGE)
        madvise(base, bytes, MADV_HUGEPAGE);  // advice: a refusal changes nothing
    a->base = base;
    a->capacity = bytes;
    return OK;
}

void arena_close(Arena *a) {
    if (a->base != NULL) munmap(a->base, a->capacity);
    *a = (Arena){0};
}

// A measuring arena and a real one take the same path, so they cannot disagree about sizes.
void *arena_take(Arena *a, size_t bytes) {
    size_t at = a->used;
    ASSERT(bytes <= SIZE_MAX - ALIGN - at);
    a->used += round_up(bytes, ALIGN);
    if (a->used > a->peak) a->peak = a->used;
    if (a->base == NULL) return NULL;
    ASSERT(a->used <= a->capacity);
    return a->base + at;
}

real *arena_reals(Arena *a, size_t count) {
    return arena_take(a, count * sizeof(real));
}
size_t arena_mark(const Arena *a) {
    return a->used;
}

void arena_rewind(Arena *a, size_t mark) {
    ASSERT(mark <= a->used);
    a->used = mark;
}
