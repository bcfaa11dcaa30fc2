// Windows over documents, one at a time.
#include "parallel/mesh.h"
#include "train/windows.h"

#include <math.h>

Status window_open(Window *w, int T, const Mesh *mesh) {
    *w = (Window){.mesh = mesh, .T = T};
    TRY(batch_open(&w->room, T, mesh->sp, mesh->sp_rank));
    TRY(batch_begin(&w->room, 1, T));
    return batch_reserve_documents(&w->room, T);  // filling a window cannot fail
}

void window_close(Window *w) {
    batch_close(&w->room);
}

// A window of the text: tokens [begin, begin + count); the next one starts at `next`.
typedef struct Span {
    int64_t begin, count, next;
    int64_t doc;   // the first document that ends behind `begin`,
    int64_t stop;  // and the first one that does not end before `next`
} Span;

// As many documents as fit, or what is left of one; of a longer one the next T tokens. An end needs
// no room of its own: nothing is predicted from it.
static Span span_after(const WindowText *text, const Span *before, int T) {
    Span s = {
        .begin = before->next, .next = before->next, .doc = before->stop, .stop = before->stop};
    while (s.stop < text->docs && (int64_t)text->ends[s.stop] - 1 - s.begin <= T)
        s.next = (int64_t)text->ends[s.stop++];
    if (s.next == s.begin) s.next = s.begin + T;
    s.count = s.next - s.begin < T ? s.next - s.begin : T;
    if (s.count > text->count - s.begin) s.count = text->count - s.begin;
    return s;
}

static void must(Status st) {
    ASSERT(st == OK);  // window_open reserved what is needed
}

// Inputs are the span's tokens, targets those one later.
static Batch window_fill(Window *w, const WindowText *text, const Span *s) {
    BatchRoom *room = &w->room;
    must(batch_begin(room, 1, (int)s->count));
    int32_t *tokens = batch_next_tokens(room);
    for (int64_t i = 0, at = s->begin + room->begin; i <= room->count; i++)
        tokens[i] = at + i < text->count ? text->ids[at + i] : 0;
    bool starts = s->doc == 0 ? s->begin == 0 : (int64_t)text->ends[s->doc - 1] == s->begin;
    if (starts) must(batch_add_document(room, 0));
    for (int64_t d = s->doc; d < s->stop && (int64_t)text->ends[d] - s->begin <= s->count; d++)
        must(batch_add_document(room, (int)((int64_t)text->ends[d] - s->begin)));
    int64_t left = text->count - 1 - s->begin;
    batch_add_row(room, left < s->count ? (int)left : (int)s->count);
    return batch_view(room);
}

Batch window_shape(Window *w) {
    Batch shape;
    must(batch_shape(&w->room, 1, w->T, &shape));
    return shape;
}

// Of the targets, as text.
static double bytes_of(const WindowText *text, const Span *s, const Window *w, const Batch *b) {
    int64_t doc = s->doc, place = s->begin + w->room.begin + 1;  // of the first target
    double sum = 0;
    for (int i = 0; i < b->seq.T; i++, place++) {
        size_t bytes = 0;
        if (b->targets[i] == IGNORE_TARGET) continue;
        while ((int64_t)text->ends[doc] <= place) doc++;
        bool mark = text->marked && (int64_t)text->ends[doc] == place + 1;
        if (!mark) bpe_token(text->bpe, b->targets[i], &bytes);
        sum += (double)bytes;
    }
    return sum;
}

void window_losses(Window *w, WindowSum *sum, Tape *tape, Model *model, const WindowText *text) {
    Span s = {0};
    for (int64_t i = 0; s.next < text->count - 1; i++) {
        s = span_after(text, &s, w->T);
        if (i % w->mesh->dp != w->mesh->dp_rank) continue;
        Batch b = window_fill(w, text, &s);
        tape_begin(tape, false);
        double nats = tensor_item(model_loss(tape, model, &b, NULL));
        if (w->mesh->tp_rank > 0) continue;  // tp ranks hold the same loss
        if (!isfinite(nats) && sum->bad == 0) sum->bad = 1 + s.begin;
        sum->nats += nats;
        sum->tokens += (double)b.valid;
        sum->bytes += bytes_of(text, &s, w, &b);
    }
}

Status window_total(WindowSum *sum, const Mesh *mesh, const char *what) {
    double total[3] = {sum->nats, sum->tokens, sum->bytes};
    int64_t bad = sum->bad == 0 ? INT64_MIN : -sum->bad;
    comm_sum_doubles(mesh->world, total, 3);
    comm_max_i64(mesh->world, &bad, 1);
    *sum = (WindowSum){total[0], total[1], total[2], bad == INT64_MIN ? 0 : -bad};
    if (isfinite(sum->nats)) return OK;
    FAIL(E_DIVERGED, "are these the weights of a run that diverged?",
         "%s: the loss of the window that begins at token %lld is not finite", what,
         (long long)sum->bad - 1);
}
