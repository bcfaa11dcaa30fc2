// Sampling weights from text: "austen=0.6,kjv=0.15".
#include "data/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_BYTES = 96 };  // of "name=weight"
static const char HINT[] =
    "write data.mix as name=weight,name=weight with the names of data.sources";

// Index of the source with this name, or -1.
static int source_index(const MixSources *s, const char *name, size_t length) {
    for (int k = 0; k < s->count; k++)
        if (strlen(s->names[k]) == length && memcmp(s->names[k], name, length) == 0) return k;
    return -1;
}

// One line with all names, as the right one is most likely among them.
static Status fail_unknown(const MixSources *s, const char *name, size_t length) {
    char known[512] = "";
    for (int k = 0; k < s->count; k++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", k > 0 ? ", " : "", s->names[k]);
    }
    FAIL(E_USAGE, HINT, "data.mix: unknown source '%.*s', known are: %s",
         (int)(length < ENTRY_BYTES ? length : ENTRY_BYTES), name, known);
}

// One "name=weight" of `length` bytes at `entry`.
static Status entry_parse(double *weights, const char *entry, size_t length, const MixSources *s) {
    const char *equals = memchr(entry, '=', length);
    if (equals == NULL || length >= ENTRY_BYTES)
        FAIL(E_USAGE, HINT, "data.mix: '%.*s' is not name=weight",
             (int)(length < ENTRY_BYTES ? length : ENTRY_BYTES), entry);
    size_t name_bytes = (size_t)(equals - entry);
    int k = source_index(s, entry, name_bytes);
    if (k < 0) return fail_unknown(s, entry, name_bytes);
    if (weights[k] >= 0) FAIL(E_USAGE, HINT, "data.mix: '%s' is named twice", s->names[k]);

    char number[ENTRY_BYTES], *end;
    snprintf(number, sizeof number, "%.*s", (int)(length - name_bytes - 1), equals + 1);
    double weight = strtod(number, &end);  // takes "inf", "nan" and what follows a number, too
    if (number[0] == '\0' || *end != '\0' || !isfinite(weight) || weight < 0)
        FAIL(E_USAGE, HINT, "data.mix: weight '%s' of '%s' is not a number >= 0", number,
             s->names[k]);
    weights[k] = weight;
    return OK;
}

// All entries; weights of sources without one stay negative.
static Status mix_read(double *weights, const char *mix, const MixSources *s) {
    for (int k = 0; k < s->count; k++) weights[k] = -1;  // not named yet
    for (const char *at = mix;; at++) {
        size_t length = strcspn(at, ",");
        while (length > 0 && *at == ' ') at++, length--;
        size_t trimmed = length;
        while (trimmed > 0 && at[trimmed - 1] == ' ') trimmed--;
        TRY(entry_parse(weights, at, trimmed, s));
        at += length;
        if (*at == '\0') return OK;
    }
}

Status mix__parse(double *weights, const char *mix, const MixSources *s) {
    bool by_tokens = mix == NULL || mix[0] == '\0';
    if (!by_tokens) TRY(mix_read(weights, mix, s));

    // Shares of 1. Sums run in the order of the sources, so that all ranks round alike.
    double sum = 0;
    for (int k = 0; k < s->count; k++) {
        if (by_tokens) weights[k] = s->tokens == NULL ? 1 : (double)s->tokens[k];
        if (weights[k] < 0) weights[k] = 0;
        // The embedded sample has text of some sources only: the others must not make the run fail.
        if (s->tokens != NULL && s->tokens[k] == 0) weights[k] = 0;
        sum += weights[k];
    }
    if (!(sum > 0) || !isfinite(sum))
        FAIL(E_USAGE, HINT, "data.mix: no source with text has a weight above 0");
    for (int k = 0; k < s->count; k++) weights[k] /= sum;
    return OK;
}
