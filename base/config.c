// The table of options at work: defaults, files, overrides, and where each value came from.
#include "base/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/yaml.h"

enum { HINT_BYTES = 512, WHERE_BYTES = PATH_BYTES + 16 };
static const char COMMAND_LINE[] = "command line";

// Slots are kept sorted by key: for look-ups, and so that whatever is written is canonical.
static int slot_compare(const void *a, const void *b) {
    return strcmp(((const Slot *)a)->field->key, ((const Slot *)b)->field->key);
}

static Slot *slot_find(const Config *c, const char *key) {
    if (c->count == 0) return NULL;
    Field field = {.key = key};
    Slot wanted = {.field = &field};
    return bsearch(&wanted, c->slots, (size_t)c->count, sizeof wanted, slot_compare);
}

// "model" when there are keys "model.width" ...: the first of them, or NULL.
static const Slot *section_find(const Config *c, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < c->count; i++) {
        const char *key = c->slots[i].field->key;
        if (strncmp(key, name, n) == 0 && key[n] == '.') return &c->slots[i];
    }
    return NULL;
}

// Sets one default. The tables are ours, so a default that its own row refuses is a bug.
static void slot_init(Slot *s, const Field *f, void *section) {
    *s = (Slot){.field = f, .target = (char *)section + f->offset};
    bool good = config__parse(s->target, f, f->initial, "table of options") == OK;
    if (!good) log_warn("%s", err_message());
    ASSERT(good);
}

Config *config_new(const Section *sections, int count) {
    Config *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    for (int s = 0; s < count; s++) c->count += sections[s].count;
    c->slots = calloc((size_t)c->count + 1, sizeof *c->slots);
    ASSERT(c->slots != NULL);
    int at = 0;
    for (int s = 0; s < count; s++) {
        for (int i = 0; i < sections[s].count; i++) {
            slot_init(&c->slots[at++], &sections[s].fields[i], sections[s].target);
        }
    }

    // A key is unique and no section at the same time, or no nested file could hold both.
    qsort(c->slots, (size_t)c->count, sizeof *c->slots, slot_compare);
    for (int i = 0; i < c->count; i++) {
        ASSERT(i == 0 || slot_compare(&c->slots[i - 1], &c->slots[i]) < 0);
        ASSERT(section_find(c, c->slots[i].field->key) == NULL);
    }
    return c;
}

void config_free(Config *c) {
    if (c == NULL) return;
    for (int i = 0; i < c->count; i++) free(c->slots[i].origin);
    free(c->slots);
    free(c);
}

static const char *last_part(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot == NULL ? key : dot + 1;
}

// The key a person most likely meant: near as a whole, or of the same last part in another section.
static const char *nearest_key(const Config *c, const char *key) {
    const char *nearest = "";
    int best = INT_MAX;
    for (int i = 0; i < c->count; i++) {
        const char *known = c->slots[i].field->key;
        // 2 points an edit of the whole key; or 3 for the wrong section and 2 an edit of the name
        // in it.
        int whole = text_distance(key, known);
        int last = 2 * text_distance(last_part(key), last_part(known)) + 3;
        int score = (last < 2 * whole ? last : 2 * whole) * 256 + whole;  // whole breaks ties
        if (score < best) {
            best = score;
            nearest = known;
        }
    }
    return nearest;
}

// No option is called `key`: says what there is instead.
static Status unknown_key(const Config *c, const char *key, const char *where) {
    char hint[HINT_BYTES];
    const Slot *first = section_find(c, key);
    if (first != NULL) {
        snprintf(hint, sizeof hint, "give values to its keys, as %s, or remove it",
                 first->field->key);
        FAIL(E_USAGE, hint, "%s: %.80s is a section, it has no value of its own", where, key);
    }
    snprintf(hint, sizeof hint, "the nearest key is %s", nearest_key(c, key));
    FAIL(E_USAGE, c->count == 0 ? "there are no options" : hint, "%s: unknown key %.80s", where,
         key);
}

static void slot_set_origin(Slot *s, const char *origin) {
    char *copy = strdup(origin);
    ASSERT(copy != NULL);
    free(s->origin);
    s->origin = copy;
}

// Parses and records the origin. An unchanged value is kept when the text is refused.
static Status slot_set(Slot *s, const char *text, const char *origin) {
    TRY(config__parse(s->target, s->field, text, origin));
    slot_set_origin(s, origin);
    return OK;
}

// The key stands there, the value does not.
static Status no_value(const Slot *s, const char *where) {
    char hint[HINT_BYTES];
    bool text = s->field->type == CFG_TEXT;
    snprintf(hint, sizeof hint, "give it one%s, or leave the key out for the default %.200s",
             text ? " (\"\" for an empty text)" : "",
             s->field->initial[0] == '\0' ? "\"\"" : s->field->initial);
    FAIL(E_USAGE, hint, "%s: %s has no value", where, s->field->key);
}

typedef struct Reading {  // what visit_entry needs besides the entry
    Config *config;
    const char *path;
    int keys;
} Reading;

// Everything that can be wrong with one line of a file is found here or below slot_set.
static Status visit_entry(const YamlEntry *entry, void *user) {
    Reading *r = user;
    Config *c = r->config;
    char where[WHERE_BYTES];
    // "file:line" opens every message, and stays as the origin of an accepted value.
    snprintf(where, sizeof where, "%s:%d", r->path, entry->line);
    Slot *s = slot_find(c, entry->key);
    if (s == NULL) return unknown_key(c, entry->key, where);
    // Duplicates count within this file only: an earlier file may be overridden.
    if (s->read == c->reads) {
        FAIL(E_USAGE, "remove one of the two", "%s: %s is already set in line %d", where,
             entry->key, s->line);
    }
    if (entry->is_none) return no_value(s, where);
    if (entry->is_list && s->field->type != CFG_TEXT) {
        FAIL(E_USAGE, "give a single value", "%s: %s takes no list", where, entry->key);
    }
    TRY(slot_set(s, entry->value, where));
    s->read = c->reads;
    s->line = entry->line;
    r->keys++;
    return OK;
}

Status config_read_file(Config *c, const char *path) {
    char *text;
    size_t bytes;
    TRY(file_read(path, &text, &bytes));
    c->reads++;
    Reading r = {.config = c, .path = path};
    Status st = yaml_each(text, bytes, path, visit_entry, &r);
    free(text);
    // An empty file is more likely a failed copy than the wish for defaults.
    if (st == OK && r.keys == 0) {
        FAIL(E_USAGE, "write at least one `key: value`, or check that this is the right file",
             "%s: sets no key", path);
    }
    return st;
}

Status config_set(Config *c, const char *key_value, const char *origin) {
    const char *equals = strchr(key_value, '=');
    if (equals == NULL || equals == key_value) {
        FAIL(E_USAGE, "write options as key=value, without spaces around =",
             "%s: \"%.80s\" is not key=value", origin, key_value);
    }
    char key[HINT_BYTES];
    snprintf(key, sizeof key, "%.*s", (int)(equals - key_value), key_value);
    Slot *s = slot_find(c, key);
    if (s == NULL) return unknown_key(c, key, origin);
    // A program may set a key again; a person who writes it twice has lost track of one.
    bool by_hand = strcmp(origin, COMMAND_LINE) == 0;
    if (by_hand && s->origin != NULL && strcmp(s->origin, COMMAND_LINE) == 0) {
        FAIL(E_USAGE, "remove one of the two", "%s: %s is set twice", origin, key);
    }
    // The shell removes quotes, so an empty text has to be asked for by name: key='""'.
    const char *value = equals + 1;
    if (value[0] == '\0') return no_value(s, origin);
    if (s->field->type == CFG_TEXT && strcmp(value, "\"\"") == 0) value = "";
    return slot_set(s, value, origin);
}

const char *config_origin(const Config *c, const char *key) {
    const Slot *s = slot_find(c, key);
    ASSERT(s != NULL);
    return s->origin == NULL ? "default" : s->origin;
}

bool config_is_default(const Config *c, const char *key) {
    const Slot *s = slot_find(c, key);
    ASSERT(s != NULL);
    return s->origin == NULL;
}

void config_set_origin(Config *c, const char *key, const char *origin) {
    Slot *s = slot_find(c, key);
    ASSERT(s != NULL);
    slot_set_origin(s, origin);
}
