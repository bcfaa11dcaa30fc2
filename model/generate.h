// Generation: prompts of any lengths are read together in blocks, then each step draws a token of
// every live text.
#pragma once

#include "model/model.h"
#include "model/sample.h"

typedef struct Prompt {
    const int32_t *ids;
    int count;  // >= 1
} Prompt;

// A token of one text.
typedef struct Drawn {
    int row;  // of the prompts, ascending within a step
    int id;
} Drawn;

// Texts in the making: a state for up to `most` of them, reused by each start. Finished ones leave,
// and cost nothing more. Steps run on the caller's tape, which may be of several generators and
// models: measure, reserve, open, start, step...
typedef struct Generator Generator;
// Dry runs for tape_reserve.
void generator_measure(Tape *tp, Model *m, int most);
// Borrows model and tape. All that follow, too, are collective over the model's tp axis. E_NOMEM.
Status generator_open(Generator **g, Model *m, Tape *tp, int most) CHECKED;
void generator_close(Generator *g);
// Reads rows <= most prompts. Row r draws from stream `stream` + r: its number among the texts of
// all ranks. E_USAGE: a prompt is empty, or has ids outside of the vocabulary; E_NOMEM.
Status generator_start(Generator *g, const Prompt *prompts, int rows, int64_t stream) CHECKED;
// The next token of each live row, *count of them; the first step follows the prompts. E_DIVERGED:
// a logit is not finite; *count then tells of the rows before it. E_NOMEM.
Status generator_step(Generator *g, const SampleConfig *cfg, Drawn *drawn, int *count) CHECKED;
// Log-probability of the token drawn last of a live row, by the model: before temperature and
// filters. It passes over the vocabulary, so only who asks pays.
double generator_log_prob(const Generator *g, int row);
void generator_finish(Generator *g, int row);  // a live row leaves
int generator_live(const Generator *g);        // rows
size_t generator_bytes(const Generator *g);    // of decode states

// Called for each new token of each live row; false: the row stops.
typedef bool (*TokenFn)(int row, int token, void *user);
// Runs all prompts; a row ends at max_new, when `token` says so and, if ends, before a token that
// ends a text (model_config_ends). Memory is constant in length for mixers whose state is. Errors
// of generator_*; what `token` heard before stands. Collective over the tp axis.
Status generate(Model *m, const Prompt *prompts, int rows, bool ends, const SampleConfig *cfg,
                TokenFn token, void *user) CHECKED;
