// MessagePack through msgpack-c (the only file that touches it): a writer into memory and a checked reader.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct PackOut PackOut;  // opaque writer
PackOut *packout_new(void);
void packout_free(PackOut *w);
void packout_map(PackOut *w, uint32_t pairs);     // then 2*pairs values, keys first
void packout_array(PackOut *w, uint32_t count);
void packout_text(PackOut *w, const char *utf8);
void packout_bytes(PackOut *w, const void *data, uint32_t bytes);
void packout_u64(PackOut *w, uint64_t v);
void packout_i64(PackOut *w, int64_t v);
void packout_f64(PackOut *w, double v);
void packout_bool(PackOut *w, bool v);
const char *packout_data(const PackOut *w, size_t *bytes);  // borrowed

typedef struct Pack Pack;                      // a parsed file
typedef struct msgpack_object PackValue;       // a borrowed value inside it
Status pack_open(Pack **p, const char *data, size_t bytes, const char *name) CHECKED;  // copies; E_FORMAT
void pack_close(Pack *p);
const PackValue *pack_root(const Pack *p);
// Lookups: NULL / fallback when missing or of another type.
const PackValue *pack_get(const PackValue *map, const char *key);
const PackValue *pack_at(const PackValue *array, uint32_t index);
uint32_t pack_count(const PackValue *array_or_map);
uint64_t pack_u64(const PackValue *v, uint64_t fallback);
int64_t pack_i64(const PackValue *v, int64_t fallback);
double pack_f64(const PackValue *v, double fallback);
bool pack_bool(const PackValue *v, bool fallback);
// Text of a value, copied and cut to `capacity`-1; "" when missing.
void pack_text(const PackValue *v, char *dst, size_t capacity);
const void *pack_bytes(const PackValue *v, uint32_t *bytes);
