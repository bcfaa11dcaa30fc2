// Every place of a document, with every wrong kind of value in it. A reader must refuse each,
// E_FORMAT, with the key in the message, unless the place stands in a list of those it does not
// read or may find null; what is in the list must be read. So no key can be read with a fallback
// that nobody has written down.
#pragma once

#include <criterion/criterion.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

// What is put in: text, integer, fraction, bool, null, list, object. A number's text is its digits.
static const char WALK_KINDS[] = "TIFBNLO";
enum {
    WALK_MEMBERS = 100,
    WALK_FEW = 3
};  // of larger objects and lists only the first few are walked

typedef struct JsonWalk {
    json_t *root;
    Status (*read)(const char *text, size_t bytes);
    const char *const
        *allowed;  // "PLACE KINDS", PLACE a pattern of fnmatch such as "a/*/b"; ends with NULL
    int tried, passed;
} JsonWalk;

static char walk_kind(const json_t *v) {
    static const char KINDS[] = {
        [JSON_OBJECT] = 'O', [JSON_ARRAY] = 'L', [JSON_STRING] = 'T', [JSON_INTEGER] = 'I',
        [JSON_REAL] = 'F',   [JSON_TRUE] = 'B',  [JSON_FALSE] = 'B',  [JSON_NULL] = 'N'};
    return KINDS[json_typeof(v)];
}

static json_t *walk_value(char kind, const json_t *old) {
    char digits[32];
    snprintf(digits, sizeof digits, "%g", json_number_value(old));
    switch (kind) {
    case 'T':
        return json_string(json_is_number(old) ? digits : "walk");
    case 'I':
        return json_integer(7);
    case 'F':
        return json_real(2.5);
    case 'B':
        return json_true();
    case 'N':
        return json_null();
    case 'L':
        return json_array();
    default:
        return json_object();
    }
}

// Whether a fraction's reader may take an integer, or the list says so.
static bool walk_allowed(const JsonWalk *w, const char *place, char kind) {
    for (const char *const *a = w->allowed; *a != NULL; a++) {
        char pattern[128];
        const char *space = strrchr(*a, ' ');
        snprintf(pattern, sizeof pattern, "%.*s", (int)(space - *a), *a);
        if (fnmatch(pattern, place, 0) == 0 && strchr(space, kind) != NULL) return true;
    }
    return false;
}

static void walk_try(JsonWalk *w, const char *place, const char *key, char kind) {
    char *text = json_dumps(w->root, 0);
    bool allowed = walk_allowed(w, place, kind);
    err_clear();
    Status st = w->read(text, strlen(text));
    w->tried++;
    w->passed += st == OK;
    cr_expect_eq(st, allowed ? OK : E_FORMAT, "%s as %c: %s, %s", place, kind, status_name(st),
                 err_message());
    if (!allowed && st != OK)
        cr_expect(strstr(err_message(), key) != NULL, "%s as %c: no %s in '%s'", place, kind, key,
                  err_message());
    free(text);
}

// Puts each other kind of value at a place: a member of `parent`, or its item `index`.
static void walk_place(JsonWalk *w, json_t *parent, const char *member, size_t index,
                       const char *place, const char *key) {
    json_t *old = json_incref(member != NULL ? json_object_get(parent, member)
                                             : json_array_get(parent, index));
    for (const char *kind = WALK_KINDS; *kind != '\0'; kind++) {
        bool number = *kind == 'I' && walk_kind(old) == 'F';
        if (*kind == walk_kind(old) || number) continue;
        json_t *value = walk_value(*kind, old);
        if (member != NULL)
            json_object_set_new(parent, member, value);
        else
            json_array_set_new(parent, index, value);
        walk_try(w, place, key, *kind);
    }
    if (member != NULL)
        json_object_set_new(parent, member, old);
    else
        json_array_set_new(parent, index, old);
}

// key: the innermost name on the way, which a message must hold.
static void walk_inside(JsonWalk *w, json_t *v, const char *place, const char *key) {
    size_t count = json_is_object(v) ? json_object_size(v) : json_array_size(v);
    if (count > WALK_MEMBERS) count = WALK_FEW;
    void *iter = json_object_iter(v);
    for (size_t i = 0; i < count; i++) {
        char inner[256], name[64] = "";
        if (json_is_object(v)) snprintf(name, sizeof name, "%s", json_object_iter_key(iter));
        const char *step = place[0] == '\0' ? "" : "/";
        if (json_is_object(v))
            snprintf(inner, sizeof inner, "%s%s%s", place, step, name);
        else
            snprintf(inner, sizeof inner, "%s%s%zu", place, step, i);
        walk_place(w, v, json_is_object(v) ? name : NULL, i, inner, json_is_object(v) ? name : key);
        walk_inside(w, json_is_object(v) ? json_object_get(v, name) : json_array_get(v, i), inner,
                    json_is_object(v) ? name : key);
        // Members that are set again keep their place.
        if (json_is_object(v)) iter = json_object_iter_next(v, json_object_iter_at(v, name));
    }
}

// Reads the sample, then all its variations. Returns how many were tried.
static inline int json_walk(const char *sample, Status (*read)(const char *text, size_t bytes),
                            const char *const *allowed) {
    json_error_t error;
    JsonWalk w = {json_loads(sample, 0, &error), read, allowed, 0, 0};
    cr_assert_not_null(w.root, "%s", error.text);
    cr_assert_eq(read(sample, strlen(sample)), OK, "%s", err_message());
    walk_inside(&w, w.root, "", "");
    json_decref(w.root);
    return w.tried;
}
