// Loss of texts in windows of at most T tokens, with the resets and targets of training: documents
// are independent, and the first token of each is not predicted. A window holds whole documents, as
// many as fit, or a part of a longer one, which starts its own context. Used for held-out text
// during training and by `sterna eval`.
#pragma once

#include "model/model.h"
#include "parallel/mesh.h"
#include "tokenizer/tokenizer.h"

// Documents end to end. Borrowed.
typedef struct WindowText {
    const int32_t *ids;    // [count]
    const uint64_t *ends;  // [docs] of the documents: exclusive, ascending
    int64_t count, docs;   // of documents beyond `count` only what is before it is looked at
    bool marked;           // the last token of each document marks its end and stands for no text
    const Bpe *bpe;
} WindowText;

// A batch of a single row, of which sequence parallelism leaves this rank a chunk.
typedef struct Window {
    const Mesh *mesh;
    int T;
    BatchRoom room;
} Window;

typedef struct WindowSum {
    double nats, tokens, bytes;  // sum over predicted tokens, how many they were, and the bytes of
                                 // text they stand for
    int64_t bad;  // 1 + the first token of the first window whose loss is not finite; 0: none
} WindowSum;

Status window_open(Window *w, int T,
                   const Mesh *mesh) CHECKED;  // E_NOMEM; window_close in any case
void window_close(Window *w);
// The shape of a whole window, for dry runs.
Batch window_shape(Window *w);
// Adds every dp'th window of the text to *sum, on one rank of each team for each token: sums over
// the world count once. The tape has room for window_shape. Collective(team).
void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const WindowText *text);
// Sums over the world. E_DIVERGED, on all ranks, where the loss of a window is not finite; `what`
// names the text. Collective(world).
Status window_total(WindowSum *sum, const Mesh *mesh, const char *what) CHECKED;
