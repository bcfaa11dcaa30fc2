// sterna eval: how well a model predicts a text.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "parallel/parallel.h"
#include "train/modeldir.h"
#include "train/windows.h"

static const char *model_path, *text_path, *seq_text = "512";
static const Option OPTIONS[] = {
    {"model", "DIR", "Hugging Face directory with tokenizer.json, for example RUN/model",
     &model_path},
    {"text", "FILE", "text to predict", &text_path},
    {"seq", "T", "tokens of a window; a window starts its own context (512)", &seq_text},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_eval(void) {
    puts("usage: [mpirun -n RANKS] sterna eval --model DIR --text FILE [--seq T] "
         "[model.key=value ...] [parallel.key=value ...]\n\n"
         "Prints nats/token and bits/byte. Every token but the first is predicted once, from the "
         "tokens before\n"
         "it in its window. Windows are dealt to ranks; with parallel.sp and\n"
         "parallel.tp ranks share each of them.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

typedef struct Eval {
    Mesh mesh;
    ModelDir dir;
    Tape *tape;
    Window window;
    int32_t *ids;
    size_t count, bytes;  // bytes: of the tokens that are predicted
} Eval;

static Status read_text(Eval *e) {
    char *text = NULL;
    size_t bytes = 0, capacity = 0, first = 0;
    Encoder *encoder = NULL;
    TRY(file_read(text_path, &text, &bytes));
    Status st = encoder_open(&encoder, e->dir.bpe);
    if (st == OK) st = encoder_run(encoder, text, bytes, &e->ids, &e->count, &capacity);
    encoder_close(encoder);
    free(text);
    TRY(st);
    if (e->count < 2) {
        FAIL(E_FORMAT, "give a longer text", "%s: %zu tokens; there is nothing to predict",
             text_path, e->count);
    }
    if (bpe_vocab(e->dir.bpe) > e->dir.model.cfg.vocab) {
        FAIL(E_FORMAT, "take the tokenizer.json the model was trained with",
             "%s: the tokenizer has %d tokens, the model %d", model_path, bpe_vocab(e->dir.bpe),
             e->dir.model.cfg.vocab);
    }
    bpe_token(e->dir.bpe, e->ids[0], &first);
    e->bytes = bytes - first;
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

static void eval_print(Eval *e) {
    WindowSum sum = {0, 0};
    window_losses(&e->window, &sum, e->tape, &e->dir.model, e->ids, (int64_t)e->count);
    double total[2] = {sum.nats, sum.tokens};
    comm_sum_doubles(e->mesh.world, total, 2);
    if (e->mesh.rank != 0) return;
    printf("tokens      %.0f\nbytes       %zu\nnats/token  %.6f\nbits/byte   %.6f\n", total[1],
           e->bytes, total[0] / total[1], total[0] / log(2.0) / (double)e->bytes);
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
    if (st == OK) eval_print(&e);
    eval_close(&e);
    return st;
}
