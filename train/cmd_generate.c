// sterna generate: continues prompts. One prompt streams; several are printed when all are done.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/data.h"
#include "model/generate.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "tensor/threads.h"
#include "train/modeldir.h"

static const char *model_path, *prompt_text, *prompts_path, *ids_text, *max_new, *greedy_flag,
    *print_ids;
static const char *stop_text, *temperature, *top_k, *top_p, *min_p, *seed;
static const Option OPTIONS[] = {
    {"model", "DIR", "Hugging Face directory, for example RUN/model", &model_path},
    {"prompt", "TEXT", "text to continue", &prompt_text},
    {"prompts", "FILE", "one prompt a line, generated together", &prompts_path},
    {"prompt-ids", "1,2,3", "token ids to continue; needs no tokenizer", &ids_text},
    {"max-new", "N", "tokens generated at most (200)", &max_new},
    {"greedy", NULL, "always the likeliest token", &greedy_flag},
    {"temperature", "X", "divides the logits (0.8); 0 is greedy", &temperature},
    {"top-k", "N", "keep the N likeliest tokens", &top_k},
    {"top-p", "X", "keep the smallest set with this share of probability (0.95)", &top_p},
    {"min-p", "X", "drop tokens below this share of the likeliest one's probability", &min_p},
    {"seed", "N", "seed of the draws (1)", &seed},
    {"stop", "TEXT", "end before this text", &stop_text},
    {"print-ids", NULL, "print new token ids instead of text", &print_ids},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_generate(void) {
    puts("usage: sterna generate --model DIR (--prompt TEXT | --prompts FILE | --prompt-ids IDS) "
         "[options]\n"
         "       mpirun -n P sterna generate parallel.tp=P ...      P ranks share the model\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// ---- what comes out ----------------------------------------------------------------------------

// Text of one row: what is printed never runs ahead of a stop text that may still be completing.
// With --print-ids it is looked at for the stop text alone, and ids are printed.
typedef struct RowOut {
    char *text;
    size_t bytes, capacity, printed;
    size_t searched;  // no stop text begins before this
    Utf8Stream utf8;
    struct {
        int token;
        size_t end;  // of its text
    } * ids;
    size_t id_count, id_capacity, ids_printed;
} RowOut;

typedef struct Output {
    const Bpe *bpe;
    RowOut *rows;
    const char *prompt;  // printed in front of what comes first: a model that fails prints nothing
    size_t prompt_bytes;
    bool stream;
} Output;

// Ranks that share the model go through the same motions; the first one prints.
static bool is_printing(void) {
    return parallel_world_rank() == 0;
}

static void print_prompt(Output *o) {
    if (o->prompt != NULL && is_printing()) print_text(o->prompt, o->prompt_bytes);
    o->prompt = NULL;
}

// Bytes at the end of a text that may be the beginning of the stop text.
static size_t held_back(bool end) {
    return end || stop_text == NULL ? 0 : strlen(stop_text) - 1;
}

static void print_ready(RowOut *r, bool end) {
    size_t hold = held_back(end);
    if (r->bytes < r->printed + hold + 1) return;
    size_t n = r->bytes - hold - r->printed;
    if (hold > 0) {  // do not cut a character in two
        while (n > 0 && ((unsigned char)r->text[r->printed + n] & 0xC0) == 0x80) n--;
    }
    if (is_printing()) {
        print_text(r->text + r->printed, n);
        output_flush();
    }
    r->printed += n;
}

static void print_ready_ids(RowOut *r, bool end) {
    size_t hold = held_back(end);
    while (r->ids_printed < r->id_count && (end || r->ids[r->ids_printed].end + hold <= r->bytes)) {
        if (is_printing()) {
            printf("%s%d", r->ids_printed > 0 ? "," : "", r->ids[r->ids_printed].token);
            output_flush();
        }
        r->ids_printed++;
    }
}

// Nobody reads on. Ranks that share the model cannot know it of the first one, and go on.
static bool is_unread(void) {
    return !parallel_is_on() && !output_flush();
}

static void append_text(RowOut *r, const char *bytes, size_t count, bool flush) {
    if (r->capacity < r->bytes + 3 * count + 32) {
        r->capacity = 2 * (r->bytes + 3 * count + 32);
        r->text = realloc(r->text, r->capacity);
        ASSERT(r->text != NULL);
    }
    r->bytes += utf8_stream(&r->utf8, bytes, count, flush, r->text + r->bytes);
    r->text[r->bytes] = '\0';
}

// The end of a token's text counts bytes that wait for the rest of their character, too.
static void append_id(RowOut *r, int token) {
    if (r->id_count == r->id_capacity) {
        r->id_capacity = 2 * r->id_capacity + 64;
        r->ids = realloc(r->ids, r->id_capacity * sizeof *r->ids);
        ASSERT(r->ids != NULL);
    }
    r->ids[r->id_count].token = token;
    r->ids[r->id_count++].end = r->bytes + (size_t)r->utf8.count;
}

// The stop text in r->text, which may hold NULs; NULL: it is not there.
static char *find_stop(const RowOut *r) {
    size_t n = strlen(stop_text);
    for (char *at = r->text + r->searched, *end = r->text + r->bytes; at + n <= end; at++) {
        at = memchr(at, stop_text[0], (size_t)(end - at) - n + 1);
        if (at == NULL || memcmp(at, stop_text, n) == 0) return at;
    }
    return NULL;
}

// Cuts the text before the stop text, and the ids that reach into it; true when it was found.
static bool cut_at_stop(RowOut *r) {
    if (stop_text == NULL || r->text == NULL) return false;
    char *at = find_stop(r);
    size_t hold = held_back(false);
    if (r->bytes > hold) r->searched = r->bytes - hold;
    if (at == NULL) return false;
    r->bytes = (size_t)(at - r->text);
    *at = '\0';
    while (r->id_count > 0 && r->ids[r->id_count - 1].end > r->bytes) r->id_count--;
    return true;
}

static bool take_token(int row, int token, void *user) {
    Output *o = user;
    RowOut *r = &o->rows[row];
    print_prompt(o);
    size_t bytes = 0;
    const char *piece = o->bpe == NULL ? NULL : bpe_token(o->bpe, token, &bytes);
    if (piece != NULL && !bpe_is_special(o->bpe, token)) append_text(r, piece, bytes, false);
    if (print_ids != NULL) append_id(r, token);
    bool stopped = cut_at_stop(r);
    if (o->stream && print_ids == NULL) print_ready(r, stopped);
    if (o->stream && print_ids != NULL) print_ready_ids(r, stopped);
    return !stopped && !is_unread();
}

static void print_row(RowOut *r, bool separator) {
    if (separator && is_printing()) puts("---");
    append_text(r, "", 0, true);
    cut_at_stop(r);
    if (print_ids == NULL) {
        print_ready(r, true);
    } else {
        print_ready_ids(r, true);
    }
    if (is_printing()) putchar('\n');
}

// ---- what goes in ------------------------------------------------------------------------------

typedef struct Prompts {
    Prompt *list;
    int count;
    char *shown;  // the text of --prompt as the model gets it
    size_t shown_bytes;
    Encoder *encoder;
} Prompts;

static void prompts_add(Prompts *p, const int32_t *ids, size_t count) {
    p->list = realloc(p->list, (size_t)(p->count + 1) * sizeof *p->list);
    ASSERT(p->list != NULL);
    p->list[p->count++] = (Prompt){ids, (int)count};
}

static void prompts_free(Prompts *p) {
    for (int i = 0; i < p->count; i++) free((void *)p->list[i].ids);
    free(p->list);
    free(p->shown);
    encoder_close(p->encoder);
}

static Status add_ids(Prompts *p, const char *text) {
    int32_t *ids = malloc((strlen(text) + 1) * sizeof *ids);
    ASSERT(ids != NULL);
    size_t count = 0;
    for (const char *s = text; *s != '\0';) {
        char *end;
        long id = strtol(s, &end, 10);
        if (end == s || id < 0 || id > INT32_MAX || (*end != ',' && *end != '\0')) {
            free(ids);
            FAIL(E_USAGE, "for example --prompt-ids 1,2,3",
                 "--prompt-ids: `%s` is not a list of ids", text);
        }
        ids[count++] = (int32_t)id;
        s = *end == ',' ? end + 1 : end;
    }
    prompts_add(p, ids, count);
    return OK;
}

static Status add_text(const char *text, size_t bytes, void *user) {
    Prompts *p = user;
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    Status st = encoder_run(p->encoder, text, bytes, &ids, &count, &capacity);
    if (st == OK)
        prompts_add(p, ids, count);
    else
        free(ids);
    return st;
}

static Status read_prompts(Prompts *p, const ModelDir *d) {
    const char *normalisation = d->model.cfg.normalisation;
    if (ids_text != NULL) return add_ids(p, ids_text);
    TRY(modeldir_need_tokenizer(d, model_path));
    TRY(encoder_open(&p->encoder, d->bpe));
    if (prompts_path != NULL) return model_prompts_read(prompts_path, normalisation, add_text, p);
    if (prompt_text == NULL) return OK;
    p->shown = strdup(prompt_text);
    ASSERT(p->shown != NULL);
    p->shown_bytes = strlen(p->shown);
    TRY(model_prompt(&p->shown, &p->shown_bytes, "--prompt", normalisation));
    return add_text(p->shown, p->shown_bytes, p);
}

static uint64_t prompts_hash(const Prompts *p) {
    uint64_t sum = 0;
    for (int i = 0; i < p->count; i++) {
        const Prompt *one = &p->list[i];
        sum = sum * 31 + hash64(one->ids, (size_t)one->count * sizeof *one->ids);
    }
    return sum;
}

static Status read_sampling(SampleConfig *s) {
    Section section = {SAMPLE_FIELDS, SAMPLE_FIELD_COUNT, s};
    Config *c = config_new(&section, 1);
    const struct {
        const char *key, *value;
    } given[] = {{"sample.temperature", temperature},
                 {"sample.top_k", top_k},
                 {"sample.top_p", top_p},
                 {"sample.min_p", min_p},
                 {"sample.seed", seed},
                 {"sample.max_new", max_new}};
    Status st = OK;
    for (size_t i = 0; i < sizeof given / sizeof given[0] && st == OK; i++) {
        char setting[TEXT_BYTES];
        if (given[i].value == NULL) continue;
        snprintf(setting, sizeof setting, "%s=%s", given[i].key, given[i].value);
        st = config_set(c, setting, "command line");
    }
    config_free(c);
    if (greedy_flag != NULL) s->temperature = 0;
    return st;
}

static Status generate_open(ModelDir *d, Prompts *p, SampleConfig *sampling, const Arguments *a,
                            const Mesh *mesh) {
    TRY(read_sampling(sampling));
    TRY(modeldir_open(d, model_path, a, mesh, false));
    if (print_ids == NULL || stop_text != NULL) TRY(modeldir_need_tokenizer(d, model_path));
    TRY(read_prompts(p, d));
    if (p->count > 0) return OK;
    FAIL(E_USAGE, "give --prompt, --prompts or --prompt-ids", "there is no prompt");
}

static Status generate_prompts(ModelDir *d, const Prompts *p, const SampleConfig *sampling) {
    Output o = {.bpe = d->bpe,
                .prompt = print_ids == NULL ? p->shown : NULL,
                .prompt_bytes = p->shown_bytes,
                .stream = p->count == 1};
    o.rows = calloc((size_t)p->count, sizeof *o.rows);
    ASSERT(o.rows != NULL);
    Status st = generate(&d->model, p->list, p->count, d->bpe != NULL, sampling, take_token, &o);
    if (st == OK) print_prompt(&o);
    for (int r = 0; r < p->count; r++) {
        if (st == OK) print_row(&o.rows[r], r > 0);
        free(o.rows[r].text);
        free(o.rows[r].ids);
    }
    free(o.rows);
    return st;
}

// mesh NULL: this process alone, without MPI. Collective(world) otherwise.
static Status generate_run(const Arguments *a, const Mesh *mesh) {
    SampleConfig sampling;
    Prompts p = {0};
    ModelDir d = {.bpe = NULL};
    Status st = generate_open(&d, &p, &sampling, a, mesh);
    if (mesh != NULL) st = agree(st, mesh->world);
    if (mesh != NULL && st == OK) st = modeldir_agree(&d, prompts_hash(&p), mesh);
    if (st == OK) st = generate_prompts(&d, &p, &sampling);
    prompts_free(&p);
    modeldir_close(&d);
    return st;
}

// Started by a launcher: the ranks share the model.
static Status generate_together(const Arguments *a) {
    Mesh mesh;
    TRY(modeldir_mesh(&mesh, a));
    Status st = OK;
    if (mesh.tp != mesh.size) {
        st = err_set(E_USAGE, "set parallel.tp to the number of ranks, or start one",
                     "generate: %d ranks, but parallel.tp=%d; they can share the model only",
                     mesh.size, mesh.tp);
    }
    st = agree(st, mesh.world);
    if (st == OK) st = generate_run(a, &mesh);
    mesh_close(&mesh);
    return st;
}

static Status check_words(const Arguments *a) {
    if (model_path == NULL || a->word_count > 0) {
        FAIL(E_USAGE, "sterna generate --model DIR --prompt TEXT", "%s",
             model_path == NULL ? "--model is missing" : "unexpected word on the command line");
    }
    if (stop_text != NULL && stop_text[0] == '\0') FAIL(E_USAGE, "leave it out", "--stop is empty");
    if ((prompt_text != NULL) + (prompts_path != NULL) + (ids_text != NULL) > 1) {
        FAIL(E_USAGE, "give one of them",
             "--prompt, --prompts and --prompt-ids exclude each other");
    }
    return OK;
}

Status cmd_generate(int argc, char **argv) {
    Arguments a;
    bool together = parallel_is_launched();
    if (together) TRY(parallel_begin(&argc, &argv));
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = check_words(&a);
    if (together) {
        TRY(arguments_agree(st, &a, OPTIONS, OPTION_COUNT));
        return generate_together(&a);
    }
    TRY(st);
    if (threads_complaint() != NULL) log_warn("%s", threads_complaint());
    TRY(modeldir_check_alone(&a));
    return generate_run(&a, NULL);
}
