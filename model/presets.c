// Named model sizes. A preset fills every key of the model section that the user left at its
// default.
#include <string.h>

#include "model/internal.h"

static const Preset PRESETS[] = {
    // name, family, C, L, H, Hk, F, V, pattern, lrpe, tied, description
    {"tnl-385m", "tnl", 1024, 24, 8, 0, 2816, 64000, "L", "first", true, "TransNormerLLM 385M"},
    {"tnl-1b", "tnl", 2048, 16, 16, 0, 5632, 64000, "L", "first", true, "TransNormerLLM 1B"},
    {"tnl-7b", "tnl", 4096, 30, 32, 0, 11008, 64000, "L", "first", true, "TransNormerLLM 7B"},
    {"tnl-hybrid-1b", "tnl", 2048, 16, 16, 0, 5632, 64000, "LLLN", "first", true,
     "1B with softmax attention in every fourth layer"},
    {"tnl-6m", "tnl", 256, 6, 4, 0, 704, 0, "L", "first", true, "the quickstart's model"},
    {"llama-6m", "llama", 256, 6, 4, 0, 704, 0, "N", "none", true,
     "softmax baseline of the quickstart"},
    // Titans: sizes of the second edition's table; the feed-forward width 8C/3, as its channel
    // mixer has
    {"titans-170m", "llama", 768, 12, 16, 0, 2048, 32000, "M", "none", true,
     "Titans, memory alone (LMM), 170M"},
    {"titans-340m", "llama", 1024, 24, 16, 0, 2736, 32000, "M", "none", true, "the same, 340M"},
    {"titans-760m", "llama", 1536, 24, 16, 0, 4096, 32000, "M", "none", true, "the same, 760M"},
    {"titans-1b", "llama", 2048, 18, 8, 0, 5472, 32000, "M", "none", true, "the same, 1.3B"},
    {"titans-mag-170m", "llama", 768, 12, 16, 0, 2048, 32000, "G", "none", true,
     "Titans, memory as a gate (MAG), 170M"},
    {"titans-mal-170m", "llama", 768, 12, 16, 0, 2048, 32000, "MW", "none", true,
     "Titans, memory as a layer (MAL), 170M"},
    {"titans-6m", "llama", 256, 6, 4, 0, 704, 0, "M", "none", true, "LMM of the quickstart's size"},
    {"tnl-tiny", "tnl", 32, 2, 2, 0, 48, 0, "L", "first", true, "for tests"},
    {"tnl-tiny-hybrid", "tnl", 32, 3, 2, 1, 48, 0, "LNL", "first", false, "for tests"},
    {"bench-36m", "tnl", 512, 8, 4, 0, 1408, 8192, "L", "first", false,
     "the model of `sterna bench step`"},
};
enum { PRESET_COUNT = sizeof PRESETS / sizeof PRESETS[0] };

const Preset *preset_find(const char *name) {
    for (int i = 0; i < PRESET_COUNT; i++) {
        if (strcmp(PRESETS[i].name, name) == 0) return &PRESETS[i];
    }
    return NULL;
}

void model_presets_list(void (*visit)(const char *name, const char *text, void *user), void *user) {
    for (int i = 0; i < PRESET_COUNT; i++) visit(PRESETS[i].name, PRESETS[i].text, user);
}
