// The table of token mixers.
#include "model/mixers/mixers.h"

#include <stdio.h>
#include <string.h>

extern const MixerOps MIXER_LIGHTNING, MIXER_SOFTMAX, MIXER_WINDOW, MIXER_MEMORY, MIXER_GATED;
static const MixerOps *const MIXERS[] = {&MIXER_LIGHTNING, &MIXER_SOFTMAX, &MIXER_WINDOW,
                                         &MIXER_MEMORY,    &MIXER_GATED,   NULL};
static const MixerOps *const *in_use = MIXERS;

const MixerOps *const *mixers(void) {
    return in_use;
}

const MixerOps *const *mixers_use(const MixerOps *const *table) {
    const MixerOps *const *before = in_use;
    in_use = table == NULL ? MIXERS : table;
    return before;
}

const MixerOps *mixer_find(char letter) {
    for (int i = 0; in_use[i] != NULL; i++) {
        if (in_use[i]->letter == letter) return in_use[i];
    }
    return NULL;
}

void mixers_help(char *dst, size_t capacity) {
    dst[0] = '\0';
    for (int i = 0; in_use[i] != NULL; i++) {
        size_t n = strlen(dst);
        snprintf(dst + n, capacity - n, "%s%c %s", i > 0 ? ", " : "", in_use[i]->letter,
                 in_use[i]->name);
    }
}
