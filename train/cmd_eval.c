// sterna eval: how well a model predicts a text.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/data.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "train/modeldir.h"
#include "train/windows.h"

static const char *model_path, *text_path, *seq_text = "512";
static const Option OPTIONS[] = {
    {"model", "DIR", "Hugging Face directory with tokenizer.json, for example RUN/model",
     &model_path},
    {"text", "FILE", "text to predict, read and normalised as the training text was", &text_path},
    {"seq", "T", "tokens of a window; a window starts its own context (512)", &seq_text},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_eval(void) {
    puts("usage: [mpirun -n RANKS] sterna eval --model DIR --text FILE [--seq T] "
         "[model.key=value ...] [parallel.key=value ...]\n\n"
         "Prints nats/token and bits/byte. Every token but the first is predicted once, from the "
         "tokens before\n"
         "it in its window; bytes are those of the predicted tokens. Windows are dealt to ranks;\n"
         "with parallel.sp and parallel.tp ranks share each of them.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

typedef struct Eval {
    Mesh mesh;
    ModelDir dir;
    Tape *tape;
    Window window;
    int32_t *ids;
    size_t count;
} Eval;

static Status read_text(Eval *e) {
    char *text = NULL;
    size_t bytes = 0, capacity = 0;
    Encoder *encoder = NULL;
    TRY(model_text_read(&text, &bytes, text_path, e->dir.model.cfg.normalisation));
    Status st = encoder_open(&encoder, e->dir.bpe);
    if (st == OK) st = encoder_run(encoder, text, bytes, &e->ids, &e->count, &capacity);
    encoder_close(encoder);
    free(text);
    TRY(st);
    if (e->count < 2) {
        FAIL(E_FORMAT, "give a longer text", "%s: %zu tokens; there is nothing to predict",
             text_path, e->count);
    }
    return OK;
}

static Status reserve_tape(Eval *e) {
    Batch shape = window_shape(&e->window);
    e->tape = tape_new();
    tape_dry(e->tape, false);
    model_loss(e->tape, &e->dir.model, &shape, NULL);
    return tape_reserve(e->tape);
}

static Status eval_open(Eval *e, int T, const Arguments *a) {
    TRY(modeldir_open(&e->dir, model_path, a, &e->mesh, false));
    TRY(modeldir_need_tokenizer(&e->dir, model_path));
    TRY(read_text(e));
    if ((size_t)T > e->count - 1) T = (int)(e->count - 1);
    TRY(window_open(&e->window, T, &e->mesh));
    return reserve_tape(e);
}

// Collective(world).
static Status eval_print(Eval *e) {
    uint64_t end = e->count;  // one document
    WindowText text = {
        .ids = e->ids, .ends = &end, .count = (int64_t)e->count, .docs = 1, .bpe = e->dir.bpe};
    WindowSum sum = {.bad = 0};
    window_losses(&e->window, &sum, e->tape, &e->dir.model, &text);
    TRY(window_total(&sum, &e->mesh, text_path));
    if (e->mesh.rank != 0) return OK;
    printf("tokens      %.0f\nbytes       %.0f\nnats/token  %.6f\nbits/byte   %.6f\n", sum.tokens,
           sum.bytes, sum.nats / sum.tokens, sum.nats / log(2.0) / sum.bytes);
    return OK;
}

static void eval_close(Eval *e) {
    window_close(&e->window);
    tape_free(e->tape);
    free(e->ids);
    modeldir_close(&e->dir);
    mesh_close(&e->mesh);
}

static Status check_words(const Arguments *a, int *T) {
    if (model_path == NULL || text_path == NULL || a->word_count > 0) {
        FAIL(E_USAGE, "sterna eval --model DIR --text FILE [--seq T]", "%s",
             a->word_count > 0 ? "unexpected word on the command line"
                               : "needs --model and --text");
    }
    long tokens;
    TRY(option_number(&tokens, "seq", seq_text, 1, 1 << 24));
    *T = (int)tokens;
    return OK;
}

Status cmd_eval(int argc, char **argv) {
    TRY(parallel_begin(&argc, &argv));
    Arguments a;
    int T = 0;
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = check_words(&a, &T);
    TRY(arguments_agree(st, &a, OPTIONS, OPTION_COUNT));
    Eval e = {.count = 0};
    TRY(modeldir_mesh(&e.mesh, &a));
    st = agree(eval_open(&e, T, &a), e.mesh.world);
    if (st == OK) st = modeldir_agree(&e.dir, hash64(e.ids, e.count * sizeof *e.ids), &e.mesh);
    if (st == OK) st = eval_print(&e);
    eval_close(&e);
    return st;
}
