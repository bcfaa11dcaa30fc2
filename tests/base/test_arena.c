// Arenas: layout, alignment, measuring, marks.
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"

// Some sizes in turn, odd ones too.
static void layout(Arena *a, void *out[4]) {
    out[0] = arena_take(a, 1);
    out[1] = arena_take(a, 0);
    out[2] = arena_reals(a, 17);
    out[3] = arena_take(a, 4097);
}

Test(arena, measuring_gives_the_exact_size) {
    Arena plan = {0}, a;
    void *p[4];
    layout(&plan, p);
    for (int i = 0; i < 4; i++) cr_expect_null(p[i]);
    cr_assert_eq(arena_open(&a, plan.used), OK);
    layout(&a, p);
    cr_expect_eq(a.used, plan.used);
    cr_expect_eq(a.used, a.capacity);
    arena_close(&a);
    cr_expect_null(a.base);
}

Test(arena, pieces_are_aligned_zeroed_and_apart) {
    Arena a;
    void *p[4];
    cr_assert_eq(arena_open(&a, 1 << 16), OK);
    layout(&a, p);
    for (int i = 0; i < 4; i++) cr_expect_eq((uintptr_t)p[i] % 64, 0);
    cr_expect_eq(p[1], p[2]);  // nothing takes no room
    cr_expect_eq((char *)p[2] - (char *)p[0], 64);
    cr_expect_geq((char *)p[3] - (char *)p[2], (ptrdiff_t)(17 * sizeof(real)));
    for (size_t i = 0; i < a.used; i++) cr_assert_eq(a.base[i], 0);
    arena_close(&a);
}

Test(arena, rewinding_reuses_memory_and_keeps_the_peak) {
    Arena a;
    cr_assert_eq(arena_open(&a, 4096), OK);
    arena_take(&a, 100);
    size_t mark = arena_mark(&a);
    void *first = arena_take(&a, 1000);
    arena_rewind(&a, mark);
    cr_expect_eq(a.used, 128);
    cr_expect_eq(a.peak, 128 + 1024);
    cr_expect_eq(arena_take(&a, 5), first);
    arena_close(&a);
}

Test(arena, an_empty_arena_opens_and_closes) {
    Arena a;
    cr_assert_eq(arena_open(&a, 0), OK);
    cr_expect_not_null(a.base);
    arena_close(&a);
    arena_close(&a);
}

Test(arena, big_arenas_are_writable_to_the_end) {
    Arena a;
    size_t bytes = ((size_t)2 << 20) + 1;
    cr_assert_eq(arena_open(&a, bytes), OK);
    char *p = arena_take(&a, bytes);
    memset(p + bytes - 10, 1, 10);
    cr_expect_geq(a.capacity, bytes);
    arena_close(&a);
}

Test(arena, impossible_sizes_are_refused_with_a_hint) {
    Arena a;
    cr_expect_eq(arena_open(&a, SIZE_MAX), E_NOMEM);
    cr_expect_eq(arena_open(&a, SIZE_MAX / 4), E_NOMEM);
    cr_expect_null(a.base);
    cr_expect_neq(err_hint()[0], '\0');
    arena_close(&a);
}

Test(arena, overflow_is_a_bug, .exit_code = 70) {
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
    Arena a;
    if (arena_open(&a, 128) != OK) _exit(1);
    arena_take(&a, 129);
}

Test(arena, a_count_that_wraps_is_a_bug, .exit_code = 70) {
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
    Arena a = {0};
    arena_reals(&a, SIZE_MAX / 2);
}
