// MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) through msgpack-c.
//
// Input is not trusted. msgpack-c reserves memory for as many members as an array's header claims,
// so five bytes could ask for 64 GiB: a scan of ours first walks the whole text and proves that
// every claimed member is there. Memory is then a small multiple of the input's size.
#include "base/pack.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

// PACK_DEPTH stays below msgpack-c's own fixed stack of 32. Text beyond PACK_BYTES is no metadata.
enum { PACK_DEPTH = 24 };
static const size_t PACK_BYTES = (size_t)256 << 20;

// Writing

struct PackOut {
    msgpack_sbuffer buffer;
    msgpack_packer packer;
};

// The writer keeps no count of members: the caller owes as many values as it announced.
PackOut *packout_new(void) {
    PackOut *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    msgpack_sbuffer_init(&w->buffer);
    msgpack_packer_init(&w->packer, &w->buffer, msgpack_sbuffer_write);
    return w;
}

void packout_free(PackOut *w) {
    if (w == NULL) return;
    msgpack_sbuffer_destroy(&w->buffer);
    free(w);
}

// Packing into memory fails for want of memory only.
static void must(int result) {
    ASSERT(result == 0);
}

void packout_map(PackOut *w, uint32_t pairs) {
    must(msgpack_pack_map(&w->packer, pairs));
}
void packout_array(PackOut *w, uint32_t count) {
    must(msgpack_pack_array(&w->packer, count));
}

void packout_text(PackOut *w, const char *utf8) {
    size_t bytes = strlen(utf8);
    must(msgpack_pack_str(&w->packer, bytes));
    must(msgpack_pack_str_body(&w->packer, utf8, bytes));
}

void packout_bytes(PackOut *w, const void *data, uint32_t bytes) {
    must(msgpack_pack_bin(&w->packer, bytes));
    must(msgpack_pack_bin_body(&w->packer, data, bytes));
}

void packout_u64(PackOut *w, uint64_t v) {
    must(msgpack_pack_uint64(&w->packer, v));
}
void packout_i64(PackOut *w, int64_t v) {
    must(msgpack_pack_int64(&w->packer, v));
}
void packout_f64(PackOut *w, double v) {
    must(msgpack_pack_double(&w->packer, v));
}

void packout_bool(PackOut *w, bool v) {
    must(v ? msgpack_pack_true(&w->packer) : msgpack_pack_false(&w->packer));
}

const char *packout_data(const PackOut *w, size_t *bytes) {
    *bytes = w->buffer.size;
    return w->buffer.data;
}

// Reading: the scan

// One value's head: bytes of the head, bytes of a body that follows, members that follow.
typedef struct Head {
    size_t head, body;
    uint64_t members;
} Head;

// Lengths are unsigned, most significant byte first; 0 bytes are 0.
static uint64_t big_endian(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[i];
    return v;
}

// The head at p[0..bytes). False when it is cut off or its first byte (0xc1) means nothing.
static bool head_at(Head *h, const unsigned char *p, size_t bytes) {
    // For 0xc0..0xdf: size of the length field, of the fixed body, and what the length counts.
    static const struct {
        unsigned char length, body;
        char counts;  // b: bytes, m: members, p: pairs, x: no such type, 0: nothing
    } KINDS[32] = {
        {0, 0, 0},   {0, 0, 'x'}, {0, 0, 0},   {0, 0, 0},    // nil, unused, false, true
        {1, 0, 'b'}, {2, 0, 'b'}, {4, 0, 'b'},               // bin
        {1, 1, 'b'}, {2, 1, 'b'}, {4, 1, 'b'},               // ext: one byte of type
        {0, 4, 0},   {0, 8, 0},                              // float
        {0, 1, 0},   {0, 2, 0},   {0, 4, 0},   {0, 8, 0},    // uint
        {0, 1, 0},   {0, 2, 0},   {0, 4, 0},   {0, 8, 0},    // int
        {0, 2, 0},   {0, 3, 0},   {0, 5, 0},   {0, 9, 0},    // fixext 1, 2, 4, 8
        {0, 17, 0},                                          // fixext 16
        {1, 0, 'b'}, {2, 0, 'b'}, {4, 0, 'b'},               // str
        {2, 0, 'm'}, {4, 0, 'm'}, {2, 0, 'p'}, {4, 0, 'p'},  // array, map
    };
    if (bytes == 0) return false;
    *h = (Head){1, 0, 0};
    unsigned char c = p[0];
    if (c <= 0x7F || c >= 0xE0) return true;  // fixint
    if (c <= 0x8F) {
        h->members = 2u * (c & 0x0Fu);
    } else if (c <= 0x9F) {
        h->members = c & 0x0Fu;
    } else if (c <= 0xBF) {
        h->body = c & 0x1Fu;
    } else {
        int length = KINDS[c - 0xC0].length;
        char counts = KINDS[c - 0xC0].counts;
        if (counts == 'x' || bytes < 1 + (size_t)length) return false;
        uint64_t n = big_endian(p + 1, length);
        h->head = 1 + (size_t)length;
        h->body = KINDS[c - 0xC0].body + (counts == 'b' ? (size_t)n : 0);
        if (counts == 'm') h->members = n;
        if (counts == 'p') h->members = 2 * n;
    }
    return true;
}

// Walks one value and all inside it. Returns its bytes, or 0 with the reason in *why.
static size_t scan(const char *data, size_t bytes, const char **why) {
    uint64_t open[PACK_DEPTH];  // values still to end, level by level
    int depth = 0;
    size_t at = 0;
    do {
        Head h;
        *why = "is cut off or malformed";
        if (!head_at(&h, (const unsigned char *)data + at, bytes - at)) return 0;
        at += h.head;
        if (h.body > bytes - at || h.members > bytes - at) return 0;  // a member takes a byte
        at += h.body;
        *why = "is nested too deeply";
        if (h.members > 0 && depth == PACK_DEPTH) return 0;
        if (h.members > 0) open[depth++] = h.members + 1;  // + 1: this head is counted off below
        while (depth > 0 && --open[depth - 1] == 0) depth--;
    } while (depth > 0);
    return at;
}

// Reading: values

struct Pack {
    msgpack_unpacked result;
    char *data;  // texts and byte strings of the values point into it
};

// msgpack-c sees only text that scan has passed; its own errors are then want of memory, or a
// difference between the two readings of the format, which is reported like any damage.
Status pack_open(Pack **out, const char *data, size_t bytes, const char *name) {
    const char *hint = "the file is damaged: restore it, or write it again";
    *out = NULL;
    if (bytes > PACK_BYTES) {
        FAIL(E_FORMAT, hint, "%s: %zu bytes of MessagePack, at most %zu are read", name, bytes,
             PACK_BYTES);
    }
    const char *why;
    size_t used = scan(data, bytes, &why);
    if (used == 0) FAIL(E_FORMAT, hint, "%s: MessagePack of %zu bytes %s", name, bytes, why);
    if (used < bytes) {
        FAIL(E_FORMAT, hint, "%s: %zu bytes follow the end of the MessagePack value", name,
             bytes - used);
    }

    Pack *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    msgpack_unpacked_init(&p->result);
    p->data = malloc(bytes);
    size_t offset = 0;
    msgpack_unpack_return got = MSGPACK_UNPACK_NOMEM_ERROR;
    if (p->data != NULL) {
        memcpy(p->data, data, bytes);
        got = msgpack_unpack_next(&p->result, p->data, bytes, &offset);
    }
    if (got == MSGPACK_UNPACK_SUCCESS) {
        *out = p;
        return OK;
    }
    pack_close(p);
    if (got == MSGPACK_UNPACK_NOMEM_ERROR) {
        FAIL(E_NOMEM, "free memory, or use more ranks", "%s: no memory to unpack %zu bytes", name,
             bytes);
    }
    FAIL(E_FORMAT, hint, "%s: MessagePack of %zu bytes is malformed", name, bytes);
}

void pack_close(Pack *p) {
    if (p == NULL) return;
    msgpack_unpacked_destroy(&p->result);
    free(p->data);
    free(p);
}

const PackValue *pack_root(const Pack *p) {
    return &p->result.data;
}

// Members and items

static const char HINT[] = "the file is damaged, or another version wrote it";

// Linear: maps here have tens of keys. The first of equal keys counts. NULL: not there.
static const PackValue *find(const PackValue *map, const char *key) {
    if (map->type != MSGPACK_OBJECT_MAP) return NULL;
    size_t bytes = strlen(key);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];
        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == bytes &&
            memcmp(kv->key.via.str.ptr, key, bytes) == 0) {
            return &kv->val;
        }
    }
    return NULL;
}

static Status refuse(const PackValue *v, const char *key, const char *expected) {
    FAIL(E_FORMAT, HINT, "'%s' %s: %s is expected", key,
         v == NULL ? "is missing" : "has another type or size", expected);
}

// What the value is found to be, or false.
static bool as_u64(uint64_t *out, const PackValue *v) {
    if (v == NULL || v->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return false;
    *out = v->via.u64;
    return true;
}

static bool as_i64(int64_t *out, const PackValue *v) {
    uint64_t u;
    if (as_u64(&u, v) && u <= INT64_MAX) return *out = (int64_t)u, true;
    if (v == NULL || v->type != MSGPACK_OBJECT_NEGATIVE_INTEGER) return false;
    *out = v->via.i64;
    return true;
}

// Any number: other writers store 1.0 as the integer 1.
static bool as_f64(double *out, const PackValue *v) {
    if (v == NULL) return false;
    bool real = v->type == MSGPACK_OBJECT_FLOAT64 || v->type == MSGPACK_OBJECT_FLOAT32;
    if (real) *out = v->via.f64;
    if (v->type == MSGPACK_OBJECT_POSITIVE_INTEGER) *out = (double)v->via.u64;
    if (v->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) *out = (double)v->via.i64;
    return real || v->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
           v->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
}

bool pack_has(const PackValue *map, const char *key) {
    return find(map, key) != NULL;
}

Status pack_map(const PackValue **out, const PackValue *map, const char *key) {
    *out = find(map, key);
    if (*out != NULL && (*out)->type == MSGPACK_OBJECT_MAP) return OK;
    return refuse(*out, key, "a map");
}

Status pack_array(const PackValue **out, uint32_t *count, const PackValue *map, const char *key) {
    *out = find(map, key);
    *count = 0;
    if (*out == NULL || (*out)->type != MSGPACK_OBJECT_ARRAY) return refuse(*out, key, "an array");
    *count = (*out)->via.array.size;
    return OK;
}

Status pack_u64(uint64_t *out, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    return as_u64(out, v) ? OK : refuse(v, key, "an integer from 0");
}

Status pack_i64(int64_t *out, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    return as_i64(out, v) ? OK : refuse(v, key, "an integer of 64 bits");
}

Status pack_f64(double *out, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    return as_f64(out, v) ? OK : refuse(v, key, "a number");
}

Status pack_bool(bool *out, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    if (v == NULL || v->type != MSGPACK_OBJECT_BOOLEAN) return refuse(v, key, "true or false");
    *out = v->via.boolean;
    return OK;
}

Status pack_text(char *out, size_t capacity, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    bool text = v != NULL && v->type == MSGPACK_OBJECT_STR && v->via.str.size < capacity;
    if (!text) return refuse(v, key, "a text");
    size_t n = v->via.str.size;
    if (n > 0) memcpy(out, v->via.str.ptr, n);
    out[n] = '\0';
    return strlen(out) == n ? OK : refuse(v, key, "a text without NUL");
}

Status pack_bytes(const void **out, uint32_t *bytes, const PackValue *map, const char *key) {
    const PackValue *v = find(map, key);
    if (v == NULL || v->type != MSGPACK_OBJECT_BIN) return refuse(v, key, "binary");
    *out = v->via.bin.ptr;
    *bytes = v->via.bin.size;
    return OK;
}

Status pack_item(const PackValue **out, const PackValue *array, uint32_t index) {
    bool there = array->type == MSGPACK_OBJECT_ARRAY && index < array->via.array.size;
    if (!there) FAIL(E_FORMAT, HINT, "item %u of an array is missing", index);
    *out = &array->via.array.ptr[index];
    return OK;
}

Status pack_item_u64(uint64_t *out, const PackValue *array, uint32_t index) {
    const PackValue *v = NULL;
    TRY(pack_item(&v, array, index));
    if (as_u64(out, v)) return OK;
    FAIL(E_FORMAT, HINT, "item %u of an array is no integer from 0", index);
}

Status pack_item_i64(int64_t *out, const PackValue *array, uint32_t index) {
    const PackValue *v = NULL;
    TRY(pack_item(&v, array, index));
    if (as_i64(out, v)) return OK;
    FAIL(E_FORMAT, HINT, "item %u of an array is no integer of 64 bits", index);
}
