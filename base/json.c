// Reading JSON (RFC 8259) is jansson's work; the flags below make it strict about what JSON leaves
// open (duplicate keys, text after the value) and lenient about what real files contain (a byte
// order mark, NUL inside texts, integers beyond 64 bits). jansson limits the nesting to 2048. The
// getters are ours: see json.h.
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

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

// Places

JsonAt json_top(const Json *root, const char *file, const char *hint) {
    return (JsonAt){.value = root, .file = file, .hint = hint};
}

JsonKind json_kind(const JsonAt *v) {
    static const JsonKind KINDS[] = {
        [JSON_OBJECT] = J_OBJECT,  [JSON_ARRAY] = J_LIST,  [JSON_STRING] = J_TEXT,
        [JSON_INTEGER] = J_NUMBER, [JSON_REAL] = J_NUMBER, [JSON_TRUE] = J_BOOL,
        [JSON_FALSE] = J_BOOL,     [JSON_NULL] = J_NONE};
    return v->value == NULL ? J_NONE : KINDS[json_typeof(v->value)];
}

size_t json_count(const JsonAt *v) {
    return json_array_size(v->value) + json_object_size(v->value);  // 0 for other types
}

// Messages

enum { PATH_TEXT = 240, VALUE_TEXT = 96, KEY_TEXT = 48, EXPECTED_TEXT = 200 };

// Quoted and escaped, and cut to a length that a line has room for.
static void quote(char *out, size_t capacity, const char *text, size_t bytes) {
    JsonOut w = {0};
    bool cut = bytes > KEY_TEXT;
    jsonout_text_n(&w, NULL, text, cut ? KEY_TEXT : bytes);
    snprintf(out, capacity, "%s%s", w.text, cut ? "..." : "");
    jsonout_free(&w);
}

static bool is_word(const char *key) {
    size_t n = strlen(key);
    return n > 0 && n <= KEY_TEXT &&
           strspn(key, "abcdefghijklmnopqrstuvwxyz_$0123456789"
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == n;
}

// rope_parameters.rope_theta, added_tokens[3].id, model.vocab["a b"]; the document is $. Returns
// the length; what does not fit is left out.
static size_t path_text(char out[PATH_TEXT], const JsonAt *v) {
    if (v->up == NULL) return (size_t)snprintf(out, PATH_TEXT, "$");
    size_t n = v->up->up == NULL ? 0 : path_text(out, v->up);
    char step[VALUE_TEXT];
    if (v->key == NULL)
        snprintf(step, sizeof step, "%s[%zu]", n == 0 ? "$" : "", v->index);
    else if (is_word(v->key))
        snprintf(step, sizeof step, "%s%s", n == 0 ? "" : ".", v->key);
    else {
        char quoted[VALUE_TEXT - 4];
        quote(quoted, sizeof quoted, v->key, strlen(v->key));
        snprintf(step, sizeof step, "%s[%s]", n == 0 ? "$" : "", quoted);
    }
    if (n + strlen(step) >= PATH_TEXT) return n;
    return n + (size_t)snprintf(out + n, PATH_TEXT - n, "%s", step);
}

static void value_text(char out[VALUE_TEXT], const JsonAt *v) {
    switch (json_typeof(v->value)) {
    case JSON_OBJECT:
        snprintf(out, VALUE_TEXT, "an object");
        break;
    case JSON_ARRAY:
        snprintf(out, VALUE_TEXT, "a list");
        break;
    case JSON_STRING:
        quote(out, VALUE_TEXT, json_string_value(v->value), json_string_length(v->value));
        break;
    case JSON_INTEGER:
        snprintf(out, VALUE_TEXT, "%lld", (long long)json_integer_value(v->value));
        break;
    case JSON_REAL:
        snprintf(out, VALUE_TEXT, "%.17g", json_real_value(v->value));
        break;
    default:
        snprintf(out, VALUE_TEXT, "%s",
                 json_is_true(v->value)    ? "true"
                 : json_is_false(v->value) ? "false"
                                           : "null");
    }
}

Status json_refuse(const JsonAt *v, const char *expected, ...) {
    char path[PATH_TEXT], value[VALUE_TEXT], wanted[EXPECTED_TEXT];
    va_list ap;
    va_start(ap, expected);
    vsnprintf(wanted, sizeof wanted, expected, ap);
    va_end(ap);
    path_text(path, v);
    if (v->value == NULL)
        FAIL(E_FORMAT, v->hint, "%s: %s is missing: %s is expected", v->file, path, wanted);
    value_text(value, v);
    FAIL(E_FORMAT, v->hint, "%s: %s = %s: %s is expected", v->file, path, value, wanted);
}

// Members and items

static JsonAt inside(const JsonAt *up, const Json *value) {
    return (JsonAt){.value = value, .up = up, .file = up->file, .hint = up->hint};
}

Status json_member(JsonAt *out, const JsonAt *object, const char *key) {
    if (json_kind(object) != J_OBJECT) return json_refuse(object, "an object");
    *out = inside(object, json_object_get(object->value, key));
    out->key = key;
    return OK;
}

Status json_item(JsonAt *out, const JsonAt *list, size_t index) {
    if (json_kind(list) != J_LIST) return json_refuse(list, "a list");
    ASSERT(index < json_count(list));
    *out = inside(list, json_array_get(list->value, index));
    out->index = index;
    return OK;
}

Status json_each(const JsonAt *object, Status (*visit)(const JsonAt *member, void *user),
                 void *user) {
    if (json_kind(object) != J_OBJECT) return json_refuse(object, "an object");
    // jansson's iterators want a mutable object though they do not change it.
    Json *o = (Json *)(uintptr_t)object->value;
    const char *key;
    Json *value;
    json_object_foreach(o, key, value) {
        JsonAt member = inside(object, value);
        member.key = key;
        TRY(visit(&member, user));
    }
    return OK;
}

// Values

static bool is_whole(double r) {
    return fabs(r) <= EXACT && r == floor(r);
}

Status json_int(int64_t *out, const JsonAt *v) {
    bool integer = json_is_integer(v->value), real = json_is_real(v->value);
    if (!integer && !(real && is_whole(json_real_value(v->value))))
        return json_refuse(v, "a whole number");
    *out = integer ? json_integer_value(v->value) : (int64_t)json_real_value(v->value);
    return OK;
}

Status json_number(double *out, const JsonAt *v) {
    if (json_kind(v) != J_NUMBER) return json_refuse(v, "a number");
    *out = json_number_value(v->value);
    return OK;
}

Status json_bool(bool *out, const JsonAt *v) {
    if (json_kind(v) != J_BOOL) return json_refuse(v, "true or false");
    *out = json_is_true(v->value);
    return OK;
}

Status json_bytes(const char **out, size_t *bytes, const JsonAt *v) {
    if (json_kind(v) != J_TEXT) return json_refuse(v, "a text");
    *out = json_string_value(v->value);
    *bytes = json_string_length(v->value);
    return OK;
}

// What ends at a NUL would be read as another text.
Status json_text(const char **out, const JsonAt *v) {
    size_t bytes = 0;
    const char *text = "";
    TRY(json_bytes(&text, &bytes, v));
    if (strlen(text) != bytes) return json_refuse(v, "a text without NUL");
    *out = text;
    return OK;
}

// Members by their type

Status json_need_object(JsonAt *out, const JsonAt *object, const char *key) {
    TRY(json_member(out, object, key));
    return json_kind(out) == J_OBJECT ? OK : json_refuse(out, "an object");
}

Status json_need_list(JsonAt *out, const JsonAt *object, const char *key) {
    TRY(json_member(out, object, key));
    return json_kind(out) == J_LIST ? OK : json_refuse(out, "a list");
}

Status json_need_int(int64_t *out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_int(out, &v);
}

Status json_need_text(const char **out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_text(out, &v);
}

Status json_opt_int(int64_t *out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_kind(&v) == J_NONE ? OK : json_int(out, &v);
}

Status json_opt_number(double *out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_kind(&v) == J_NONE ? OK : json_number(out, &v);
}

Status json_opt_bool(bool *out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_kind(&v) == J_NONE ? OK : json_bool(out, &v);
}

Status json_opt_text(const char **out, const JsonAt *object, const char *key) {
    JsonAt v;
    TRY(json_member(&v, object, key));
    return json_kind(&v) == J_NONE ? OK : json_text(out, &v);
}
