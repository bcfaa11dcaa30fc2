// A configuration as text: the resolved file for people, the dump that identifies a run, and what
// differs between two dumps.
#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

static const int INDENT = 2;

// Origins are paths: what could end the comment, or is no UTF-8, becomes a question mark.
static void write_comment(FILE *out, const char *text) {
    size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        uint32_t code;
        int used = utf8_decode(&code, text + at, n - at);
        bool keep = used > 0 && code_is_printable(code);
        if (keep) fwrite(text + at, 1, (size_t)used, out);
        if (!keep) fputc('?', out);
        at += used == 0 ? 1 : (size_t)used;
    }
}

// Opens the maps around `key` that `previous` (the key before, or "") did not leave open, and
// writes the key's last part. Keys come sorted, so the keys of a map are neighbours and each map is
// opened once.
static void write_key(FILE *out, const char *key, const char *previous) {
    int depth = 0;
    const char *part = key;
    for (size_t i = 0; key[i] != '\0' && key[i] == previous[i]; i++) {
        if (key[i] != '.') continue;
        depth++;
        part = key + i + 1;
    }
    for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1, depth++) {
        fprintf(out, "%*s%.*s:\n", depth * INDENT, "", (int)(dot - part), part);
    }
    fprintf(out, "%*s%s: ", depth * INDENT, "", part);
}

// Built in memory first: the file is then replaced as a whole, or not at all.
Status config_write(const Config *c, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ASSERT(out != NULL);
    fputs("# Every option, its value, and where the value came from.\n", out);
    for (int i = 0; i < c->count; i++) {
        const Slot *s = &c->slots[i];
        char value[VALUE_BYTES];
        config__print(value, s->field, s->target);
        write_key(out, s->field->key, i == 0 ? "" : c->slots[i - 1].field->key);
        fprintf(out, "%s  # ", value);
        write_comment(out, s->origin == NULL ? "default" : s->origin);
        fputc('\n', out);
    }
    bool complete = fclose(out) == 0;
    ASSERT(complete);
    Status st = file_write(path, text, bytes);
    free(text);
    return st;
}

// Flat and sorted: two configurations are equal exactly when their dumps are equal bytes.
static char *dump(const Config *c, bool free_too) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ASSERT(out != NULL);
    for (int i = 0; i < c->count; i++) {
        const Field *f = c->slots[i].field;
        char value[VALUE_BYTES];
        if (f->use == KEY_FREE && !free_too) continue;
        config__print(value, f, c->slots[i].target);
        fprintf(out, "%s: %s\n", f->key, value);
    }
    bool complete = fclose(out) == 0;
    ASSERT(complete);
    return text;
}

char *config_dump(const Config *c) {
    return dump(c, true);
}

char *config_dump_fixed(const Config *c) {
    return dump(c, false);
}

// A line "key: value" of a dump. A dump may come from a damaged file: a line without ": " is all
// key.
typedef struct Line {
    const char *key, *value, *next;
    int key_bytes, value_bytes;
} Line;

// The line at `p`; false at the end.
static bool line_at(Line *l, const char *p) {
    if (*p == '\0') return false;
    size_t n = strcspn(p, "\n");
    size_t key = 0;
    while (key < n && !(p[key] == ':' && p[key + 1] == ' ')) key++;
    size_t value = key + 2 < n ? key + 2 : n;
    *l = (Line){p, p + value, p + n + (p[n] == '\n'), (int)key, (int)(n - value)};
    return true;
}

// The order of strcmp on keys that end without a NUL.
static int key_compare(const Line *a, const Line *b) {
    int common = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    int order = strncmp(a->key, b->key, (size_t)common);
    return order != 0 ? order : a->key_bytes - b->key_bytes;
}

// Appends "key: a -> b" if it fits as a whole. A NULL line stands for a key that is not there.
static void write_change(char *out, size_t capacity, size_t *used, const Line *a, const Line *b) {
    const Line *key = a != NULL ? a : b;
    int n = snprintf(out + *used, capacity - *used, "%s%.*s: %.*s -> %.*s", *used > 0 ? "; " : "",
                     key->key_bytes, key->key, a != NULL ? a->value_bytes : 6,
                     a != NULL ? a->value : "(none)", b != NULL ? b->value_bytes : 6,
                     b != NULL ? b->value : "(none)");
    if (n > 0 && (size_t)n < capacity - *used) {
        *used += (size_t)n;
    } else if (*used < capacity) {
        out[*used] = '\0';
    }
}

// A merge of two sorted lists. Unsorted dumps give more lines than needed, but it always ends.
int config_diff(const char *dump_a, const char *dump_b, char *out, size_t capacity) {
    int changes = 0;
    size_t used = 0;
    if (capacity > 0) out[0] = '\0';
    Line a, b;
    for (;;) {
        bool has_a = line_at(&a, dump_a), has_b = line_at(&b, dump_b);
        if (!has_a && !has_b) return changes;
        int order = !has_a ? 1 : !has_b ? -1 : key_compare(&a, &b);
        bool same = order == 0 && a.value_bytes == b.value_bytes &&
                    memcmp(a.value, b.value, (size_t)a.value_bytes) == 0;
        if (!same) {
            write_change(out, capacity, &used, order <= 0 ? &a : NULL, order >= 0 ? &b : NULL);
            changes++;
        }
        if (order <= 0) dump_a = a.next;
        if (order >= 0) dump_b = b.next;
    }
}
