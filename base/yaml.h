// YAML for configuration files: nested maps, scalars, and lists of scalars. What YAML has beyond
// that (anchors, aliases, tags, several documents, keys that are no scalars) is refused with its
// place.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct YamlEntry {
    const char *key;    // map keys joined with dots: "optim.lr"
    const char *value;  // UTF-8 without NUL; the items of a list joined with commas
    int line;           // of the key, from 1
    bool is_none;       // nothing, ~ or null, not quoted
    bool is_list;
} YamlEntry;

typedef Status (*YamlVisit)(const YamlEntry *entry, void *user);
// Calls visit for each scalar and list in the file's order; stops at the first failure. Empty maps
// are silent. `name` is the file's name in messages. Fails with E_USAGE: a person wrote this text.
Status yaml_each(const char *text, size_t bytes, const char *name, YamlVisit visit,
                 void *user) CHECKED;
