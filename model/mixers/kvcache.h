// Keys and values of the tokens that a generation has seen, rotated as they were: rows of their own
// lengths, of which a sliding window needs the last tokens only.
#pragma once

#include "tensor/ops.h"

typedef struct KvCache KvCache;

// B rows of keys and of values of `width` reals a token. window 0: all stay; else what no later
// token sees is dropped, and memory does not grow beyond about two windows. NULL: out of memory.
KvCache *kvcache_open(int B, int width, int window);
void kvcache_close(KvCache *c);
// Room for T more tokens in each row. E_NOMEM.
Status kvcache_reserve(KvCache *c, int T) CHECKED;
// T tokens to each of the first `rows` rows; room was reserved. keys, values: (rows*T, width)
void kvcache_append(KvCache *c, const real *keys, const real *values, int rows, int T);
CacheView kvcache_view(const KvCache *c);  // until the next reserve
size_t kvcache_bytes(const KvCache *c);
// Row `from` of src takes the place of row `to`. E_NOMEM.
Status kvcache_copy_row(KvCache *dst, int to, const KvCache *src, int from) CHECKED;
// A row as bytes, for this build and processor: kvcache_row_bytes of them. load: E_FORMAT when they
// are not of such a row, E_NOMEM.
size_t kvcache_row_bytes(const KvCache *c, int row);
void kvcache_save_row(const KvCache *c, int row, char *to);
Status kvcache_load_row(KvCache *c, int row, const char *from, size_t bytes) CHECKED;
