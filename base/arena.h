// Arenas: one big zeroed mapping, bump allocation, 64-byte alignment, freed once. An arena without
// a base only measures, so that sizes and pointers come from one layout function run twice.
#pragma once

#include <stddef.h>

#include "base/real.h"
#include "base/status.h"

typedef struct Arena {
    char *base;       // NULL: measure only
    size_t capacity;  // bytes
    size_t used;      // bytes, always a multiple of 64
    size_t peak;      // largest `used` so far
} Arena;

// Maps `bytes` of zeroed memory (huge pages advised). Fails with E_NOMEM.
Status arena_open(Arena *a, size_t bytes) CHECKED;
void arena_close(Arena *a);
// Next `bytes`, aligned to 64. Measuring arena: counts and returns NULL. Overflow is a bug
// (ASSERT).
void *arena_take(Arena *a, size_t bytes);
real *arena_reals(Arena *a, size_t count);
size_t arena_mark(const Arena *a);
void arena_rewind(Arena *a, size_t mark);  // contents beyond the mark become undefined
