// JSON (RFC 8259) in and out. Reading is jansson's work; the flags below make it strict about what
// JSON leaves open (duplicate keys, text after the value) and lenient about what real files contain
// (a byte order mark, NUL inside texts, integers beyond 64 bits). jansson limits the nesting to
// 2048.
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

// jansson has these as macros; here they are functions of ours with the same meaning.
#undef json_is_object
#undef json_is_array
#undef json_is_number

static const double EXACT = 9007199254740992.0;  // 2^53: doubles hold every integer up to here

// Reading

Status json_open(Json **root, const char *text, size_t bytes, const char *name) {
    *root = NULL;
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3, bytes -= 3;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t error;
    *root = json_loadb(text, bytes, flags, &error);
    // Tokenizer settings on the Hub hold integers such as 1e30 written out: the nearest double will
    // do.
    if (*root == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        *root = json_loadb(text, bytes, flags | JSON_DECODE_INT_AS_REAL, &error);
    }
    if (*root != NULL) return OK;
    if (json_error_code(&error) == json_error_out_of_memory) {
        FAIL(E_NOMEM, "free memory, or use more ranks", "%s: no memory to parse %zu bytes", name,
             bytes);
    }
    FAIL(E_FORMAT, "repair the file, or fetch or write it again", "%s:%d:%d: %s", name, error.line,
         error.column, error.text);
}

// Errors inside the file carry its path, as those of opening it do.
Status json_open_file(Json **root, const char *path) {
    char *text;
    size_t bytes;
    *root = NULL;
    TRY(file_read(path, &text, &bytes));
    Status st = json_open(root, text, bytes, path);
    free(text);
    return st;
}

void json_close(Json *root) {
    json_decref(root);
}

// jansson's getters take NULL and other types for granted, and return NULL or 0 for them.
Json *json_get(const Json *object, const char *key) {
    return json_object_get(object, key);
}
Json *json_at(const Json *array, size_t index) {
    return json_array_get(array, index);
}

size_t json_count(const Json *v) {
    // Each is 0 for values of another type, NULL included.
    return json_array_size(v) + json_object_size(v);
}

bool json_is_object(const Json *v) {
    return v != NULL && json_typeof(v) == JSON_OBJECT;
}
bool json_is_array(const Json *v) {
    return v != NULL && json_typeof(v) == JSON_ARRAY;
}
bool json_is_text(const Json *v) {
    return json_is_string(v);
}
bool json_is_number(const Json *v) {
    return json_is_integer(v) || json_is_real(v);
}
bool json_is_bool(const Json *v) {
    return json_is_boolean(v);
}
bool json_is_none(const Json *v) {
    return v == NULL || json_is_null(v);
}

// 3.0 and 1e6 count as integers: writers in other languages do not keep the two apart.
bool json_is_int(const Json *v) {
    if (json_is_integer(v)) return true;
    if (!json_is_real(v)) return false;
    double r = json_real_value(v);
    return fabs(r) <= EXACT && r == floor(r);
}

const char *json_text(const Json *v, const char *fallback) {
    return json_is_string(v) ? json_string_value(v) : fallback;
}

size_t json_text_bytes(const Json *v) {
    return json_string_length(v);
}

int64_t json_int(const Json *v, int64_t fallback) {
    if (json_is_integer(v)) return json_integer_value(v);
    return json_is_int(v) ? (int64_t)json_real_value(v) : fallback;
}

double json_number(const Json *v, double fallback) {
    return json_is_number(v) ? json_number_value(v) : fallback;
}

bool json_bool(const Json *v, bool fallback) {
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

Status json_each(const Json *object,
                 Status (*visit)(const char *key, const Json *value, void *user), void *user) {
    if (!json_is_object(object)) return OK;
    // jansson's iterators want a mutable object though they do not change it.
    Json *o = (Json *)(uintptr_t)object;
    const char *key;
    Json *value;
    json_object_foreach(o, key, value) {
        TRY(visit(key, value, user));
    }
    return OK;
}

// Writing

// Appends bytes; the capacity doubles, so that n bytes cost O(n) in all.
static void put(JsonOut *w, const char *text, size_t bytes) {
    if (w->capacity - w->bytes <= bytes) {  // one byte is kept for the NUL
        size_t capacity = w->capacity < 256 ? 256 : w->capacity;
        while (capacity - w->bytes <= bytes) {
            ASSERT(capacity <= SIZE_MAX / 2);
            capacity *= 2;
        }
        w->text = realloc(w->text, capacity);
        ASSERT(w->text != NULL);
        w->capacity = capacity;
    }
    memcpy(w->text + w->bytes, text, bytes);
    w->bytes += bytes;
    w->text[w->bytes] = '\0';
}

static void put_char(JsonOut *w, char c) {
    put(w, &c, 1);
}

// A new line at the current depth, when lines are wanted.
static void put_line(JsonOut *w) {
    if (w->indent == 0) return;
    put_char(w, '\n');
    for (int i = 0; i < w->depth * w->indent; i++) put_char(w, ' ');
}

// The escape of a code point, or NULL when it stands for itself.
static const char *escape_of(char buffer[8], uint32_t code) {
    switch (code) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    }
    if (code >= 0x20) return NULL;
    snprintf(buffer, 8, "\\u%04x", (unsigned)code);
    return buffer;
}

// A quoted text. JSON is UTF-8 by definition: each byte that is not becomes U+FFFD.
static void put_quoted(JsonOut *w, const char *s, size_t bytes) {
    put_char(w, '"');
    size_t from = 0;  // s[from..at) stands for itself and is not yet written
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        char buffer[8];
        int used = utf8_decode(&code, s + at, bytes - at);
        const char *replacement = used == 0 ? "\xEF\xBF\xBD" : escape_of(buffer, code);
        size_t next = at + (used == 0 ? 1 : (size_t)used);
        if (replacement != NULL) {
            put(w, s + from, at - from);
            put(w, replacement, strlen(replacement));
            from = next;
        }
        at = next;
    }
    put(w, s + from, bytes - from);
    put_char(w, '"');
}

// Everything before a value: comma, line, key. Values at the top follow each other line by line.
static void begin(JsonOut *w, const char *key) {
    if (w->depth == 0) {
        if (w->bytes > 0) put_char(w, '\n');
    } else {
        if (!w->first) put_char(w, ',');
        put_line(w);
    }
    w->first = false;
    if (key == NULL) return;
    put_quoted(w, key, strlen(key));
    put(w, ": ", w->indent > 0 ? 2 : 1);
}

// An object or array begins; `first` is about the level just opened.
static void open_with(JsonOut *w, const char *key, char bracket) {
    begin(w, key);
    put_char(w, bracket);
    w->depth++;
    w->first = true;
}

static void close_with(JsonOut *w, char bracket) {
    ASSERT(w->depth > 0);
    w->depth--;
    if (!w->first) put_line(w);  // {} and [] stay on one line
    put_char(w, bracket);
    w->first = false;
}

void jsonout_open_object(JsonOut *w, const char *key) {
    open_with(w, key, '{');
}
void jsonout_close_object(JsonOut *w) {
    close_with(w, '}');
}
void jsonout_open_array(JsonOut *w, const char *key) {
    open_with(w, key, '[');
}
void jsonout_close_array(JsonOut *w) {
    close_with(w, ']');
}

void jsonout_text(JsonOut *w, const char *key, const char *utf8) {
    jsonout_text_n(w, key, utf8, strlen(utf8));
}

void jsonout_text_n(JsonOut *w, const char *key, const char *utf8, size_t bytes) {
    begin(w, key);
    put_quoted(w, utf8, bytes);
}

void jsonout_int(JsonOut *w, const char *key, int64_t v) {
    char text[24];
    begin(w, key);
    put(w, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v));
}

void jsonout_number(JsonOut *w, const char *key, double v) {
    if (!isfinite(v)) {  // JSON has no word for these
        jsonout_none(w, key);
        return;
    }
    char text[DOUBLE_TEXT_BYTES];
    begin(w, key);
    put(w, text, (size_t)double_to_text(text, v));
}

void jsonout_bool(JsonOut *w, const char *key, bool v) {
    begin(w, key);
    put(w, v ? "true" : "false", v ? 4 : 5);
}

void jsonout_none(JsonOut *w, const char *key) {
    begin(w, key);
    put(w, "null", 4);
}

void jsonout_free(JsonOut *w) {
    free(w->text);
    *w = (JsonOut){0};
}
