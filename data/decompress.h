// Decompression as a stream that is pulled: gzip (also several members), xz, zstd or nothing, found
// by magic number. The output is limited, so that a small hostile file cannot fill memory or disk.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef struct Decompressor Decompressor;

// Reads `in_bytes` of `file` from where it stands; the file is borrowed, `name` is for messages.
// limit_bytes: most bytes that may come out; beyond it decompressor_read fails with E_FORMAT.
Status decompressor_open(Decompressor **d, FILE *file, uint64_t in_bytes, uint64_t limit_bytes,
                         const char *name) CHECKED;
// Fills `out`; *got < bytes only at the end. E_FORMAT: truncated or corrupt.
Status decompressor_read(Decompressor *d, void *out, size_t bytes, size_t *got) CHECKED;
void decompressor_close(Decompressor *d);

// Do the bytes begin like gzip, xz or zstd?
bool is_packed(const void *data, size_t bytes);
// All of it at once, from memory: malloc'ed, NUL-terminated. E_FORMAT: truncated, corrupt, beyond
// the limit.
Status decompress_all(char **text, size_t *bytes, const void *packed, size_t packed_bytes,
                      uint64_t limit_bytes, const char *name) CHECKED;
