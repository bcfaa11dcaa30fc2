// MessagePack through msgpack-c (the only file that touches it): a writer into memory and a checked
// reader.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct PackOut PackOut;  // opaque writer
PackOut *packout_new(void);
void packout_free(PackOut *w);
void packout_map(PackOut *w, uint32_t pairs);  // then 2*pairs values, keys first
void packout_array(PackOut *w, uint32_t count);
void packout_text(PackOut *w, const char *utf8);
void packout_bytes(PackOut *w, const void *data, uint32_t bytes);
void packout_u64(PackOut *w, uint64_t v);
void packout_i64(PackOut *w, int64_t v);
void packout_f64(PackOut *w, double v);
void packout_bool(PackOut *w, bool v);
const char *packout_data(const PackOut *w, size_t *bytes);  // borrowed

typedef struct Pack Pack;                 // a parsed file
typedef struct msgpack_object PackValue;  // a borrowed value inside it
Status pack_open(Pack **p, const char *data, size_t bytes,
                 const char *name) CHECKED;  // copies; E_FORMAT
void pack_close(Pack *p);
const PackValue *pack_root(const Pack *p);
// Members of a map and items of an array. One that is missing or of another type is refused:
// E_FORMAT with its key or number, to which the caller adds the file. No value stands for another.
bool pack_has(const PackValue *map, const char *key);  // for what not every version writes
Status pack_map(const PackValue **out, const PackValue *map, const char *key) CHECKED;
Status pack_array(const PackValue **out, uint32_t *count, const PackValue *map,
                  const char *key) CHECKED;
Status pack_u64(uint64_t *out, const PackValue *map, const char *key) CHECKED;
Status pack_i64(int64_t *out, const PackValue *map, const char *key) CHECKED;
Status pack_f64(double *out, const PackValue *map, const char *key) CHECKED;  // any number
Status pack_bool(bool *out, const PackValue *map, const char *key) CHECKED;
Status pack_text(char *out, size_t capacity, const PackValue *map,
                 const char *key) CHECKED;  // must fit
Status pack_bytes(const void **out, uint32_t *bytes, const PackValue *map, const char *key) CHECKED;
Status pack_item(const PackValue **out, const PackValue *array, uint32_t index) CHECKED;
Status pack_item_u64(uint64_t *out, const PackValue *array, uint32_t index) CHECKED;
Status pack_item_i64(int64_t *out, const PackValue *array, uint32_t index) CHECKED;
