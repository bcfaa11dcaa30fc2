// Configuration: every option is one row of a table. The same rows read YAML files and dotted
// key=value overrides, check ranges, know where each value came from, and print --help, the
// reference and the man page.
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

enum { TEXT_BYTES = 512 };
typedef char Text[TEXT_BYTES];  // a string option

typedef enum {
    CFG_BOOL,
    CFG_INT,
    CFG_I64,
    CFG_F64,
    CFG_TEXT
} FieldType;  // bool, int, int64_t, double, Text

// May it have another value when a run is resumed, because it changes no number beyond rounding?
typedef enum { KEY_FIXED, KEY_FREE } KeyUse;

typedef struct Field {
    const char *key;  // dotted: "optim.lr"
    FieldType type;
    size_t offset;        // into the section's struct
    double min, max;      // inclusive; ignored for bool and text
    const char *initial;  // default, as it would be written in YAML
    const char *choices;  // text: "a|b|c", NULL = anything
    const char *help;     // one sentence, with unit
    const char *unit;     // "" when none
    KeyUse use;
} Field;

// One folder's table and the struct it fills.
typedef struct Section {
    const Field *fields;
    int count;
    void *target;
} Section;

typedef struct Config Config;  // opaque: sections plus the origin of every value

// Sections are borrowed and must outlive the Config; targets are filled with defaults.
Config *config_new(const Section *sections, int count);
void config_free(Config *c);
// Integers: 4096, 4_096, 4K (1024s: K M G T), 1e6 or 1.5e6. Numbers: what strtod reads, finite.
// Bools: true, false, yes, no, on, off. Texts: UTF-8; a YAML list [a, b] is the text "a,b". A key
// may be set once in a file and once on the command line; later sources win. An empty text is
// written "" and a missing value is an error. Nested maps are joined with dots. Unknown key:
// E_USAGE naming file, line and the nearest key.
Status config_read_file(Config *c, const char *path) CHECKED;
Status config_set(Config *c, const char *key_value, const char *origin) CHECKED;  // "optim.lr=1e-3"
const char *config_origin(const Config *c,
                          const char *key);  // "default", "file.yaml:12", "command line"
bool config_is_default(const Config *c, const char *key);
// The program itself changed the value in the section's struct: where it came from. Copies the
// text.
void config_set_origin(Config *c, const char *key, const char *origin);
// The resolved file: every key, its value and origin as a comment; reads back to the same values.
Status config_write(const Config *c, const char *path) CHECKED;
// YAML text of all values without origins, malloc'ed: the identity of a configuration.
char *config_dump(const Config *c);
char *config_dump_fixed(const Config *c);  // without KEY_FREE
// Lists keys whose values differ between two dumps as "key: a -> b; key: ..." into `out`, at most
// `capacity` bytes.
int config_diff(const char *dump_a, const char *dump_b, char *out, size_t capacity);

// One field of a section's struct from its text, as a file would give it. E_USAGE names `where`.
Status config_set_field(void *section, const Field *f, const char *text, const char *where) CHECKED;

typedef enum { HELP_TEXT, HELP_MARKDOWN, HELP_MAN } HelpStyle;
void config_help(const Section *sections, int count, HelpStyle style, FILE *out);
