// The table of token mixers.
#include "model/mixers/mixers.h"

#include <string.h>

extern const MixerOps MIXER_LIGHTNING, MIXER_SOFTMAX, MIXER_WINDOW;
static const MixerOps *const MIXERS[] = {&MIXER_LIGHTNING, &MIXER_SOFTMAX, &MIXER_WINDOW};
const char MIXER_LETTERS[] = "LNW";

const MixerOps *mixer_find(char letter) {
    const char *at = strchr(MIXER_LETTERS, letter);
    return letter == '\0' || at == NULL ? NULL : MIXERS[at - MIXER_LETTERS];
}
