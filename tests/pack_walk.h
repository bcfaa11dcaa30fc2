// As json_walk.h, for MessagePack: every value in turn becomes one of each other kind.
#pragma once

#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

typedef Status (*PackRead)(const char *data, size_t bytes);

typedef struct PackWalk {
    msgpack_packer out;
    int target, at;  // running numbers of the value that is replaced, and of the next one
    int kind;        // what it becomes
    bool replaced;   // it was of another kind
    char key[64];  // the innermost key on the way to it, with the numbers of items: "tensors[0][1]"
} PackWalk;

enum {
    WALK_NIL,
    WALK_BOOL,
    WALK_UNSIGNED,
    WALK_NEGATIVE,
    WALK_REAL,
    WALK_TEXT,
    WALK_BIN,
    WALK_ARRAY,
    WALK_MAP,
    WALK_ALL
};

static int walk_kind_of(const msgpack_object *v) {
    switch (v->type) {
    case MSGPACK_OBJECT_NIL:
        return WALK_NIL;
    case MSGPACK_OBJECT_BOOLEAN:
        return WALK_BOOL;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return WALK_UNSIGNED;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return WALK_NEGATIVE;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return WALK_REAL;
    case MSGPACK_OBJECT_STR:
        return WALK_TEXT;
    case MSGPACK_OBJECT_BIN:
        return WALK_BIN;
    case MSGPACK_OBJECT_ARRAY:
        return WALK_ARRAY;
    default:
        return WALK_MAP;
    }
}

static void walk_put(msgpack_packer *w, int kind) {
    if (kind == WALK_NIL) msgpack_pack_nil(w);
    if (kind == WALK_BOOL) msgpack_pack_true(w);
    if (kind == WALK_UNSIGNED) msgpack_pack_uint64(w, 7);
    if (kind == WALK_NEGATIVE) msgpack_pack_int64(w, -7);
    if (kind == WALK_REAL) msgpack_pack_double(w, 2.5);
    if (kind == WALK_ARRAY) msgpack_pack_array(w, 0);
    if (kind == WALK_MAP) msgpack_pack_map(w, 0);
    if (kind == WALK_TEXT) msgpack_pack_str(w, 1), msgpack_pack_str_body(w, "7", 1);
    if (kind == WALK_BIN) msgpack_pack_bin(w, 1), msgpack_pack_bin_body(w, "7", 1);
}

static void walk_copy(PackWalk *w, const msgpack_object *v, const char *key) {
    if (w->at++ == w->target) {
        snprintf(w->key, sizeof w->key, "%s", key);
        w->replaced = walk_kind_of(v) != w->kind;
        walk_put(&w->out, w->kind);
        return;
    }
    if (v->type == MSGPACK_OBJECT_MAP) {
        msgpack_pack_map(&w->out, v->via.map.size);
        for (uint32_t i = 0; i < v->via.map.size; i++) {
            char name[64];
            const msgpack_object_str *s = &v->via.map.ptr[i].key.via.str;
            snprintf(name, sizeof name, "%.*s", (int)s->size, s->ptr);
            msgpack_pack_object(&w->out, v->via.map.ptr[i].key);
            walk_copy(w, &v->via.map.ptr[i].val, name);
        }
    } else if (v->type == MSGPACK_OBJECT_ARRAY) {
        msgpack_pack_array(&w->out, v->via.array.size);
        for (uint32_t i = 0; i < v->via.array.size; i++) {
            char item[64];
            snprintf(item, sizeof item, "%.50s[%u]", key, i);
            walk_copy(w, &v->via.array.ptr[i], item);
        }
    } else {
        msgpack_pack_object(&w->out, *v);
    }
}

static bool walk_is_number(int kind) {
    return kind == WALK_UNSIGNED || kind == WALK_NEGATIVE || kind == WALK_REAL;
}

// passed: keys that the reader does not read, with spaces around each; numbers: keys that take any
// number. Returns how many variations were tried.
static inline int pack_walk(const char *data, size_t bytes, PackRead read, const char *passed,
                            const char *numbers) {
    msgpack_unpacked parsed;
    size_t offset = 0;
    int tried = 0;
    msgpack_unpacked_init(&parsed);
    cr_assert_eq(msgpack_unpack_next(&parsed, data, bytes, &offset), MSGPACK_UNPACK_SUCCESS);
    for (int target = 0, count = 1; target < count; target++) {
        for (int kind = 0; kind < WALK_ALL; kind++) {
            msgpack_sbuffer buffer;
            msgpack_sbuffer_init(&buffer);
            PackWalk w = {.target = target, .kind = kind};
            msgpack_packer_init(&w.out, &buffer, msgpack_sbuffer_write);
            walk_copy(&w, &parsed.data, "");
            if (target == 0 && kind != WALK_MAP)
                count = 1 << 10;  // one value was copied: not all were counted
            bool there = w.at > target;
            char key[80];
            snprintf(key, sizeof key, " %s ", w.key);
            if (there && w.replaced && !(strstr(numbers, key) && walk_is_number(kind))) {
                bool unread = w.key[0] != '\0' && strstr(passed, key) != NULL;
                err_clear();
                Status st = read(buffer.data, buffer.size);
                tried++;
                cr_expect_eq(st, unread ? OK : E_FORMAT, "%s as %d: %s", key, kind, err_message());
                // Of an item, the message tells its number or what it lacks.
                bool named = strstr(err_message(), w.key) || strchr(w.key, '[') || target == 0;
                cr_expect(named || unread, "no%s in '%s'", key, err_message());
            }
            msgpack_sbuffer_destroy(&buffer);
        }
    }
    msgpack_unpacked_destroy(&parsed);
    return tried;
}
