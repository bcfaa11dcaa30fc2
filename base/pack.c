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

// NULL is of no type: so a chain of lookups may go on after a miss.
static bool is(const PackValue *v, msgpack_object_type type) {
    return v != NULL && v->type == type;
}

// Linear: maps here have tens of keys. The first of equal keys counts.
const PackValue *pack_get(const PackValue *map, const char *key) {
    if (!is(map, MSGPACK_OBJECT_MAP)) return NULL;
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

const PackValue *pack_at(const PackValue *array, uint32_t index) {
    if (!is(array, MSGPACK_OBJECT_ARRAY) || index >= array->via.array.size) return NULL;
    return &array->via.array.ptr[index];
}

uint32_t pack_count(const PackValue *v) {
    if (is(v, MSGPACK_OBJECT_ARRAY)) return v->via.array.size;
    return is(v, MSGPACK_OBJECT_MAP) ? v->via.map.size : 0;
}

uint64_t pack_u64(const PackValue *v, uint64_t fallback) {
    return is(v, MSGPACK_OBJECT_POSITIVE_INTEGER) ? v->via.u64 : fallback;
}

int64_t pack_i64(const PackValue *v, int64_t fallback) {
    if (is(v, MSGPACK_OBJECT_NEGATIVE_INTEGER)) return v->via.i64;
    bool fits = is(v, MSGPACK_OBJECT_POSITIVE_INTEGER) && v->via.u64 <= INT64_MAX;
    return fits ? (int64_t)v->via.u64 : fallback;
}

// Any number: other writers store 1.0 as the integer 1.
double pack_f64(const PackValue *v, double fallback) {
    if (is(v, MSGPACK_OBJECT_FLOAT64) || is(v, MSGPACK_OBJECT_FLOAT32)) return v->via.f64;
    if (is(v, MSGPACK_OBJECT_POSITIVE_INTEGER)) return (double)v->via.u64;
    return is(v, MSGPACK_OBJECT_NEGATIVE_INTEGER) ? (double)v->via.i64 : fallback;
}

bool pack_bool(const PackValue *v, bool fallback) {
    return is(v, MSGPACK_OBJECT_BOOLEAN) ? v->via.boolean : fallback;
}

void pack_text(const PackValue *v, char *dst, size_t capacity) {
    ASSERT(capacity > 0);
    size_t bytes = is(v, MSGPACK_OBJECT_STR) ? v->via.str.size : 0;
    if (bytes > capacity - 1) bytes = capacity - 1;
    if (bytes > 0) memcpy(dst, v->via.str.ptr, bytes);
    dst[bytes] = '\0';
}

const void *pack_bytes(const PackValue *v, uint32_t *bytes) {
    bool found = is(v, MSGPACK_OBJECT_BIN);
    *bytes = found ? v->via.bin.size : 0;
    return found ? v->via.bin.ptr : NULL;
}
