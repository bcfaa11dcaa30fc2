// JSON: reading through jansson (json.c, the only file that touches it), writing by a small
// streaming writer (json_write.c).
//
// A value that is not understood never counts as absent: every getter either finds its type or
// fails, E_FORMAT, with file, JSON path and value. What may be absent has its default in *out
// before the call.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef struct json_t Json;  // an owned document

// Parses `bytes` of text; duplicate keys and trailing garbage are errors (E_FORMAT, with `name`,
// line and column). *root is owned by the caller: json_close.
Status json_open(Json **root, const char *text, size_t bytes, const char *name) CHECKED;
Status json_open_file(Json **root, const char *path) CHECKED;
void json_close(Json *root);

// A place in a document and how one gets there. Borrows the document, `up` and `key`, which must
// stay where they are while it is in use.
typedef struct JsonAt {
    const Json *value;        // NULL: nothing is there
    const struct JsonAt *up;  // the object or list it stands in; NULL: the whole document
    const char *key;          // NULL: item `index` of a list
    size_t index;
    const char *file, *hint;  // of every message about it and what is inside
} JsonAt;

typedef enum {
    J_NONE,
    J_BOOL,
    J_NUMBER,
    J_TEXT,
    J_LIST,
    J_OBJECT
} JsonKind;  // J_NONE: null, or nothing (value NULL)

JsonAt json_top(const Json *root, const char *file, const char *hint);
JsonKind json_kind(const JsonAt *v);
size_t json_count(const JsonAt *v);  // of a list or an object, else 0
// E_FORMAT: "FILE: PATH = VALUE: EXPECTED is expected". For values of the right type, too.
Status json_refuse(const JsonAt *v, const char *expected, ...)
    __attribute__((format(printf, 2, 3))) CHECKED;

// Members and items. A member that is missing has no value; an object or list that is none is
// refused.
Status json_member(JsonAt *out, const JsonAt *object, const char *key) CHECKED;
Status json_item(JsonAt *out, const JsonAt *list, size_t index) CHECKED;  // index < json_count
// Visits members in the file's order; member->key is the name.
Status json_each(const JsonAt *object, Status (*visit)(const JsonAt *member, void *user),
                 void *user) CHECKED;

// The value, which must be of the type. 3.0 and 1e6 are integers: writers in other languages do not
// keep the two apart.
Status json_int(int64_t *out, const JsonAt *v) CHECKED;
Status json_number(double *out, const JsonAt *v) CHECKED;  // integer or real
Status json_bool(bool *out, const JsonAt *v) CHECKED;
Status json_text(const char **out, const JsonAt *v) CHECKED;  // UTF-8 without NUL, borrowed
Status json_bytes(const char **out, size_t *bytes,
                  const JsonAt *v) CHECKED;  // a text, NULs included

// A member that must be there, of the type.
Status json_need_object(JsonAt *out, const JsonAt *object, const char *key) CHECKED;
Status json_need_list(JsonAt *out, const JsonAt *object, const char *key) CHECKED;
Status json_need_int(int64_t *out, const JsonAt *object, const char *key) CHECKED;
Status json_need_text(const char **out, const JsonAt *object, const char *key) CHECKED;
// A member that may be missing or null: *out stays what it was.
Status json_opt_int(int64_t *out, const JsonAt *object, const char *key) CHECKED;
Status json_opt_number(double *out, const JsonAt *object, const char *key) CHECKED;
Status json_opt_bool(bool *out, const JsonAt *object, const char *key) CHECKED;
Status json_opt_text(const char **out, const JsonAt *object, const char *key) CHECKED;

// Writer: builds text in memory; commas, escapes and nesting are its business. Errors cannot happen
// but for memory (ASSERT). key may be NULL inside arrays and at the top.
typedef struct JsonOut {
    char *text;  // owned; jsonout_free
    size_t bytes, capacity;
    int depth, indent;  // indent 0: one line
    bool first;
} JsonOut;

void jsonout_open_object(JsonOut *w, const char *key);
void jsonout_close_object(JsonOut *w);
void jsonout_open_array(JsonOut *w, const char *key);
void jsonout_close_array(JsonOut *w);
void jsonout_text(JsonOut *w, const char *key, const char *utf8);
void jsonout_text_n(JsonOut *w, const char *key, const char *utf8, size_t bytes);
void jsonout_int(JsonOut *w, const char *key, int64_t v);
void jsonout_number(JsonOut *w, const char *key, double v);  // %.17g shortened; not finite -> null
void jsonout_bool(JsonOut *w, const char *key, bool v);
void jsonout_none(JsonOut *w, const char *key);
void jsonout_free(JsonOut *w);
