// JSON: reading through jansson (the only file that touches it), writing by a small streaming writer.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef struct json_t Json;  // a borrowed value unless said otherwise

// Parses `bytes` of text; duplicate keys and trailing garbage are errors (E_FORMAT, with `name`, line and column).
// *root is owned by the caller: json_close.
Status json_open(Json **root, const char *text, size_t bytes, const char *name) CHECKED;
Status json_open_file(Json **root, const char *path) CHECKED;
void json_close(Json *root);

// Lookups return NULL / the default when the key is missing or has another type.
Json *json_get(const Json *object, const char *key);
Json *json_at(const Json *array, size_t index);
size_t json_count(const Json *array_or_object);  // 0 for anything else
bool json_is_object(const Json *v);
bool json_is_array(const Json *v);
bool json_is_text(const Json *v);
bool json_is_int(const Json *v);
bool json_is_number(const Json *v);  // integer or real
bool json_is_bool(const Json *v);
bool json_is_none(const Json *v);    // null, or no value at all
const char *json_text(const Json *v, const char *fallback);  // UTF-8, borrowed
size_t json_text_bytes(const Json *v);                       // length of json_text, NULs included
int64_t json_int(const Json *v, int64_t fallback);
double json_number(const Json *v, double fallback);
bool json_bool(const Json *v, bool fallback);
// Visits members in the file's order.
Status json_each(const Json *object, Status (*visit)(const char *key, const Json *value, void *user),
                 void *user) CHECKED;

// Writer: builds text in memory; commas, escapes and nesting are its business. Errors cannot happen but
// for memory (ASSERT). key may be NULL inside arrays and at the top.
typedef struct JsonOut {
    char *text;  // owned; jsonout_free
    size_t bytes, capacity;
    int depth, indent;     // indent 0: one line
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
