// libyaml's events (YAML 1.1, https://yaml.org/spec/1.1/) reduced to dotted keys and texts.
//
// map   := MAPPING-START (key value)* MAPPING-END, one recursion a level, at most YAML_DEPTH
// value := SCALAR | map | SEQUENCE-START SCALAR* SEQUENCE-END
// Types are the reader's business: here 12 and "12" are the same text.
#include "base/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { YAML_DEPTH = 16, KEY_BYTES = 256, LIST_BYTES = 4096 };
static const size_t YAML_BYTES = (size_t)1 << 20;  // longer text is no configuration

typedef struct Reader {
    yaml_parser_t parser;
    const char *name;
    YamlVisit visit;
    void *user;
    char key[KEY_BYTES];  // dotted, of the value being read
    int line;             // of its last part
} Reader;

static int line_of(const yaml_event_t *e) {
    return (int)e->start_mark.line + 1;
}

// What libyaml says about text that is no YAML, and where.
static Status parser_failed(const Reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        FAIL(E_NOMEM, "free memory, or use more ranks", "%s: no memory to parse YAML", r->name);
    }
    bool encoding = p->error == YAML_READER_ERROR;  // comes with a byte offset, not with a line
    if (encoding) {
        FAIL(E_USAGE, "save the file as UTF-8 text", "%s: byte %zu: %s", r->name, p->problem_offset,
             p->problem);
    }
    FAIL(E_USAGE, "indent with spaces, write `key: value`, and quote texts with special characters",
         "%s:%zu:%zu: %s%s%s", r->name, p->problem_mark.line + 1, p->problem_mark.column + 1,
         p->problem, p->context == NULL ? "" : " ", p->context == NULL ? "" : p->context);
}

// Refuses what every event may carry: anchors, tags, or being an alias.
static Status check_plain(const Reader *r, const yaml_event_t *e) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        FAIL(E_USAGE, "write the value out where it is needed", "%s:%d: aliases (*%s) are not read",
             r->name, line_of(e), (const char *)e->data.alias.anchor);
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
        break;
    default:
        return OK;
    }
    if (anchor != NULL) {
        FAIL(E_USAGE, "remove the anchor", "%s:%d: anchors (&%s) are not read", r->name, line_of(e),
             (const char *)anchor);
    }
    if (tag != NULL) {
        FAIL(E_USAGE, "remove the tag: the key decides the type", "%s:%d: tags (%s) are not read",
             r->name, line_of(e), (const char *)tag);
    }
    return OK;
}

// The next event, for the caller to delete; none to delete on failure.
static Status next(Reader *r, yaml_event_t *e) {
    if (!yaml_parser_parse(&r->parser, e)) return parser_failed(r);
    Status st = check_plain(r, e);
    if (st != OK) yaml_event_delete(e);
    return st;
}

static const char *text_of(const yaml_event_t *e) {
    return (const char *)e->data.scalar.value;
}

// Escapes may smuggle a NUL into a text; C would silently cut there.
static bool has_nul(const yaml_event_t *e) {
    return strlen(text_of(e)) != e->data.scalar.length;
}

// YAML's ways to write nothing. In quotes they are texts like any other.
static bool is_none(const yaml_event_t *e) {
    static const char *const NONE[] = {"", "~", "null", "Null", "NULL"};
    if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    for (size_t i = 0; i < sizeof NONE / sizeof NONE[0]; i++) {
        if (strcmp(text_of(e), NONE[i]) == 0) return true;
    }
    return false;
}

// Appends the key in `e` to the dotted key, whose first `at` bytes stay.
static Status push_key(Reader *r, const yaml_event_t *e, size_t at) {
    r->line = line_of(e);
    if (e->type != YAML_SCALAR_EVENT || is_none(e) || has_nul(e) || text_of(e)[0] == '\0') {
        FAIL(E_USAGE, "write `key: value`", "%s:%d: a key must be a word", r->name, r->line);
    }
    int n = snprintf(r->key + at, KEY_BYTES - at, "%s%s", at == 0 ? "" : ".", text_of(e));
    if (n >= 0 && (size_t)n < KEY_BYTES - at) return OK;
    FAIL(E_USAGE, "no option has so long a name", "%s:%d: a key has more than %d characters",
         r->name, r->line, KEY_BYTES - 1);
}

// Appends one item of a list to the `used` bytes of `list`.
static Status push_item(const Reader *r, const yaml_event_t *e, char list[LIST_BYTES],
                        size_t *used) {
    if (e->type != YAML_SCALAR_EVENT || is_none(e) || has_nul(e)) {
        FAIL(E_USAGE, "write the list as [a, b, c]",
             "%s:%d: %s: items of a list must be words or "
             "numbers",
             r->name, line_of(e), r->key);
    }
    if (text_of(e)[0] == '\0' || strchr(text_of(e), ',') != NULL) {
        FAIL(E_USAGE, "write one item for each part of the list",
             "%s:%d: %s: an item of a list is empty or holds a comma", r->name, line_of(e), r->key);
    }
    int n = snprintf(list + *used, LIST_BYTES - *used, "%s%s", *used == 0 ? "" : ",", text_of(e));
    if (n < 0 || (size_t)n >= LIST_BYTES - *used) {
        FAIL(E_USAGE, "shorten the list", "%s:%d: %s: the list is longer than %d characters",
             r->name, line_of(e), r->key, LIST_BYTES - 1);
    }
    *used += (size_t)n;
    return OK;
}

// The list whose start was just read, as one text.
static Status read_list(Reader *r) {
    char list[LIST_BYTES] = "";
    size_t used = 0;
    for (;;) {
        yaml_event_t e;
        TRY(next(r, &e));
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        Status st = end ? OK : push_item(r, &e, list, &used);
        yaml_event_delete(&e);
        TRY(st);
        if (end) break;
    }
    YamlEntry entry = {r->key, list, r->line, false, true};
    return r->visit(&entry, r->user);
}

static Status read_scalar(Reader *r, const yaml_event_t *e) {
    if (has_nul(e)) {
        FAIL(E_USAGE, "remove the \\0", "%s:%d: %s: the text holds a NUL", r->name, line_of(e),
             r->key);
    }
    YamlEntry entry = {r->key, text_of(e), r->line, is_none(e), false};
    return r->visit(&entry, r->user);
}

static Status read_map(Reader *r, int depth);

// The value of the key just pushed.
static Status read_value(Reader *r, int depth) {
    yaml_event_t e;
    TRY(next(r, &e));
    Status st = OK;
    if (e.type == YAML_SCALAR_EVENT) {
        st = read_scalar(r, &e);
    } else if (e.type == YAML_SEQUENCE_START_EVENT) {
        st = read_list(r);
    } else {  // the parser lets nothing else stand here
        st = read_map(r, depth + 1);
    }
    yaml_event_delete(&e);
    return st;
}

// The map whose start was just read.
static Status read_map(Reader *r, int depth) {
    if (depth > YAML_DEPTH) {
        FAIL(E_USAGE, "options are at most a few levels deep",
             "%s:%d: maps are nested more than %d deep", r->name, r->line, YAML_DEPTH);
    }
    size_t at = strlen(r->key);
    for (;;) {
        yaml_event_t e;
        TRY(next(r, &e));
        bool end = e.type == YAML_MAPPING_END_EVENT;
        Status st = end ? OK : push_key(r, &e, at);
        yaml_event_delete(&e);
        TRY(st);
        if (end) return OK;
        TRY(read_value(r, depth));
        r->key[at] = '\0';
    }
}

// The document's root after DOCUMENT-START, up to DOCUMENT-END.
static Status read_document(Reader *r) {
    yaml_event_t e;
    TRY(next(r, &e));
    bool map = e.type == YAML_MAPPING_START_EVENT;
    int line = line_of(&e);
    yaml_event_delete(&e);
    if (!map) {
        FAIL(E_USAGE, "write one `key: value` a line", "%s:%d: the file must hold keys with values",
             r->name, line);
    }
    TRY(read_map(r, 1));
    TRY(next(r, &e));
    yaml_event_delete(&e);
    return OK;
}

// STREAM-START, at most one document, STREAM-END. An empty stream has no document at all.
static Status read_stream(Reader *r) {
    for (int documents = 0;;) {
        yaml_event_t e;
        TRY(next(r, &e));
        yaml_event_type_t type = e.type;
        int line = line_of(&e);
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT) return OK;
        if (type != YAML_DOCUMENT_START_EVENT) continue;
        if (++documents > 1) {
            FAIL(E_USAGE, "remove the `---`, or split the file",
                 "%s:%d: a second document begins here", r->name, line);
        }
        TRY(read_document(r));
    }
}

Status yaml_each(const char *text, size_t bytes, const char *name, YamlVisit visit, void *user) {
    if (bytes > YAML_BYTES) {
        FAIL(E_USAGE, "is this the right file?", "%s: %zu bytes, a configuration has at most %zu",
             name, bytes, YAML_BYTES);
    }
    Reader r = {.name = name, .visit = visit, .user = user};
    if (!yaml_parser_initialize(&r.parser)) return parser_failed(&r);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    Status st = read_stream(&r);
    yaml_parser_delete(&r.parser);
    return st;
}
