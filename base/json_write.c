// The JSON writer: commas, escapes and nesting, into memory.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

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
