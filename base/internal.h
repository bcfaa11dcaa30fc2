// What the files of the configuration share: config.c (objects, reading), config_value.c (one value
// to and from text), config_write.c (files, dumps, differences) and config_help.c (tables for
// people).
#pragma once

#include <stddef.h>

#include "base/config.h"

// An option of a Config: its row, where its value lives, and where the value came from.
typedef struct Slot {
    const Field *field;
    void *target;
    char *origin;  // owned; NULL: the default
    int read;      // number of the file that set it, 0: none; finds duplicates
    int line;      // in that file
} Slot;

struct Config {
    Slot *slots;  // sorted by key
    int count;
    int reads;  // files read so far
};

// Text of a value in YAML, quoted where needed: every byte of a Text may take four (\xNN), and a
// range or list of choices is never longer than this either.
enum { VALUE_BYTES = 4 * TEXT_BYTES + 3 };

// Parses, checks range and choices, stores. `where` opens the message: "run.yaml:12", "command
// line".
Status config__parse(void *target, const Field *f, const char *text, const char *where) CHECKED;
void config__print(char out[VALUE_BYTES], const Field *f, const void *target);
// `text` as a YAML scalar that every reader takes for a text.
void config__quote(char out[VALUE_BYTES], const char *text);
// "1 to 64 tokens", "a|b|c", "true|false", "text".
void config__range(char out[VALUE_BYTES], const Field *f);
