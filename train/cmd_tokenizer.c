// sterna tokenizer: trains a byte-level BPE on text files, encodes text, decodes ids.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/sources/sources.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "tokenizer/tokenizer.h"
#include "train/commands.h"

static const char *vocab_text, *out_path, *tokenizer_path, *specials_text = "<pad>,<bos>,<eos>",
                                                           *min_text = "2", *max_text = "64";
static const Option OPTIONS[] = {
    {"vocab", "N", "train: number of ids, specials and the 256 bytes included", &vocab_text},
    {"out", "FILE", "train: tokenizer.json to write", &out_path},
    {"specials", "A,B,...", "train: ids 0, 1, ... (<pad>,<bos>,<eos>); \"\" for none",
     &specials_text},
    {"min-count", "N", "train: pairs seen less often are not merged (2)", &min_text},
    {"max-bytes", "N", "train: longest token in bytes, 0 for no limit (64)", &max_text},
    {"tokenizer", "FILE", "encode, decode: tokenizer.json to use", &tokenizer_path},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0], MAX_SPECIALS = 64 };
static const char USAGE[] = "sterna tokenizer train | encode | decode, see --help";

void help_tokenizer(void) {
    puts("usage: [mpirun -n RANKS] sterna tokenizer train --vocab N --out FILE TEXT_FILE...\n"
         "       sterna tokenizer encode --tokenizer FILE [TEXT_FILE | -]\n"
         "       sterna tokenizer decode --tokenizer FILE [IDS_FILE | -]\n\n"
         "train reads files and directories as data.sources does, cleans them alike and deals them "
         "to ranks;\n"
         "the result does not depend on how many there are. encode takes its text as it is and "
         "prints ids on\n"
         "one line. decode prints the bytes they stand for and nothing else.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// ---- train -------------------------------------------------------------------------------------

typedef struct Training {
    BpeTrainConfig cfg;
    char *names;  // owns the text of `specials`
    const char *specials[MAX_SPECIALS];
} Training;

// Cuts the list of specials at its commas.
static Status read_specials(Training *t) {
    t->names = strdup(specials_text);
    ASSERT(t->names != NULL);
    t->cfg.specials = t->specials;
    for (char *name = strtok(t->names, ","); name != NULL; name = strtok(NULL, ",")) {
        if (t->cfg.special_count == MAX_SPECIALS) {
            FAIL(E_USAGE, "give fewer", "--specials: more than %d", MAX_SPECIALS);
        }
        t->specials[t->cfg.special_count++] = name;
    }
    return OK;
}

static Status read_training(Training *t, const Arguments *a) {
    long vocab, min_count, max_bytes;
    if (vocab_text == NULL || out_path == NULL || a->word_count < 2) {
        FAIL(E_USAGE, "sterna tokenizer train --vocab N --out FILE TEXT_FILE...",
             "needs --vocab, --out and at least one text file");
    }
    TRY(output_check("out", out_path, false, a->words + 1, a->word_count - 1));
    TRY(option_number(&vocab, "vocab", vocab_text, 1, 1 << 24));
    TRY(option_number(&min_count, "min-count", min_text, 1, 1 << 24));
    TRY(option_number(&max_bytes, "max-bytes", max_text, 0, 1 << 24));
    TRY(read_specials(t));
    t->cfg.vocab_size = (int)vocab;
    t->cfg.min_count = min_count;
    t->cfg.max_token_bytes = (int)max_bytes;
    int least = 256 + t->cfg.special_count;
    if (vocab < least) {
        FAIL(E_USAGE, "256 bytes and the specials come first", "--vocab %ld is smaller than %d",
             vocab, least);
    }
    return OK;
}

// The words of one input, read and cleaned as training text is.
static Status count_words(WordCount *words, Splitter *splitter, const char *path) {
    DocList docs = {0};
    Cleaning cleaned = {0};
    char text[CLEANING_TEXT_BYTES];
    NormaliseCounts counts = {0};
    Status st = local_read(&docs, path, 0, 0, &TEXT_LIMITS, &cleaned);
    if (st == OK) st = docs_normalise(&docs, TEXT_LIMITS.invalid, &counts);
    for (size_t i = 0; i < docs.count && st == OK; i++) {
        st = wordcount_text(words, splitter, docs.docs[i].text, docs.docs[i].bytes);
    }
    doclist_free(&docs);
    cleaning_add(&cleaned, &counts);
    if (st == OK && cleaning_text(text, &cleaned)) log_warn("%s: %s", path, text);
    return st;
}

// This rank's files, counted, as bytes to send.
static Status count_files(char **dump, size_t *bytes, const Arguments *a, const Mesh *mesh) {
    WordCount *words = wordcount_new();
    Splitter *splitter = NULL;
    Status st = splitter_open(&splitter, NULL);
    for (int i = 1 + mesh->rank; i < a->word_count && st == OK; i += mesh->size) {
        st = count_words(words, splitter, a->words[i]);
    }
    if (st == OK) {
        *dump = wordcount_dump(words, bytes);
        if (*dump == NULL) st = err_set(E_NOMEM, "use less text", "no memory for word counts");
    }
    splitter_close(splitter);
    wordcount_free(words);
    return st;
}

// Rank 0 alone: the counts of all ranks together decide, whatever the ranks were.
static Status train_from_counts(const Training *t, const char *dumps, const size_t *offsets,
                                int ranks) {
    WordCount *words = wordcount_new();
    Bpe *bpe = NULL;
    Status st = OK;
    for (int r = 0; r < ranks && st == OK; r++) {
        st = wordcount_merge(words, dumps + offsets[r], offsets[r + 1] - offsets[r]);
    }
    if (st == OK) st = bpe_train(&bpe, words, &t->cfg);
    if (st == OK) st = bpe_write_hf(bpe, out_path);
    if (st == OK) {
        log_info("%s: %d ids, %d merges, from %zu distinct words", out_path, bpe_vocab(bpe),
                 bpe_merges(bpe), wordcount_size(words));
    }
    bpe_close(bpe);
    wordcount_free(words);
    return st;
}

// Collective(world).
static Status train(const Training *t, const Arguments *a, const Mesh *mesh) {
    char *dump = NULL, *dumps = NULL;
    size_t bytes = 0, *offsets = calloc((size_t)mesh->size + 1, sizeof *offsets);
    ASSERT(offsets != NULL);
    Status st = agree(count_files(&dump, &bytes, a, mesh), mesh->world);
    if (st == OK) st = comm_allgather_bytes(mesh->world, dump, bytes, &dumps, offsets);
    if (st == OK) {
        Status here = mesh->rank == 0 ? train_from_counts(t, dumps, offsets, mesh->size) : OK;
        st = agree(here, mesh->world);
    }
    free(dump);
    free(dumps);
    free(offsets);
    return st;
}

static Status tokenizer_train(const Arguments *a) {
    Training t = {.names = NULL};
    Mesh mesh = {0};
    Status st = parallel_agree(read_training(&t, a));
    if (st == OK) st = mesh_open(&mesh, &(ParallelConfig){.dp = 0, .sp = 1, .tp = 1});
    if (st == OK) {
        st = train(&t, a, &mesh);
        mesh_close(&mesh);
    }
    free(t.names);
    return st;
}

// ---- encode, decode ----------------------------------------------------------------------------

// The named file, or standard input.
static Status read_input(const Arguments *a, char **text, size_t *bytes) {
    bool standard = a->word_count < 2 || strcmp(a->words[1], "-") == 0;
    return file_read(standard ? "/dev/stdin" : a->words[1], text, bytes);
}

static Status encode(const Bpe *bpe, const Arguments *a) {
    char *text = NULL;
    int32_t *ids = NULL;
    size_t bytes, count = 0, capacity = 0;
    Encoder *e = NULL;
    TRY(read_input(a, &text, &bytes));
    Status st = encoder_open(&e, bpe);
    if (st == OK) st = encoder_run(e, text, bytes, &ids, &count, &capacity);
    if (st == OK) {
        for (size_t i = 0; i < count; i++) printf("%s%d", i > 0 ? " " : "", (int)ids[i]);
        putchar('\n');
    }
    encoder_close(e);
    free(ids);
    free(text);
    return st;
}

// Ids between white space; commas are taken too, as --prompt-ids has them.
static Status parse_ids(const Bpe *bpe, const char *text, size_t bytes, int32_t *ids,
                        size_t *count) {
    static const char BETWEEN[] = " \t\r\n,";
    *count = 0;
    if (strlen(text) != bytes) FAIL(E_FORMAT, "ids in decimal", "the ids contain a NUL byte");
    for (const char *s = text + strspn(text, BETWEEN); *s != '\0'; s += strspn(s, BETWEEN)) {
        char *end;
        errno = 0;
        long id = strtol(s, &end, 10);
        bool whole = end != s && (*end == '\0' || strchr(BETWEEN, *end) != NULL);
        if (!whole || errno != 0 || id < 0 || id >= bpe_vocab(bpe)) {
            FAIL(E_FORMAT, "ids in decimal with spaces between them",
                 "number %zu, `%.*s`, is no id from 0 to %d", *count + 1,
                 (int)strcspn(s, BETWEEN) > 40 ? 40 : (int)strcspn(s, BETWEEN), s,
                 bpe_vocab(bpe) - 1);
        }
        ids[(*count)++] = (int32_t)id;
        s = end;
    }
    return OK;
}

static Status decode(const Bpe *bpe, const Arguments *a) {
    char *text = NULL;
    size_t bytes, count;
    TRY(read_input(a, &text, &bytes));
    int32_t *ids = malloc((bytes / 2 + 1) * sizeof *ids);  // an id and what follows: two bytes
    ASSERT(ids != NULL);
    Status st = parse_ids(bpe, text, bytes, ids, &count);
    free(text);
    if (st == OK) {
        char *out = bpe_decode(bpe, ids, count, true, &bytes);
        ASSERT(out != NULL);
        print_text(out, bytes);
        free(out);
    }
    free(ids);
    return st;
}

static Status with_tokenizer(const Arguments *a, Status (*run)(const Bpe *, const Arguments *)) {
    if (tokenizer_path == NULL) FAIL(E_USAGE, USAGE, "--tokenizer is missing");
    if (a->word_count > 2) FAIL(E_USAGE, USAGE, "more than one input: `%s`", a->words[2]);
    Bpe *bpe = NULL;
    TRY(bpe_read_hf(&bpe, tokenizer_path));
    Status st = run(bpe, a);
    bpe_close(bpe);
    return st;
}

Status cmd_tokenizer(int argc, char **argv) {
    Arguments a;
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = arguments_no_settings(&a, "tokenizer");
    bool trains = st == OK && a.word_count > 0 && strcmp(a.words[0], "train") == 0;
    if (trains || (st != OK && parallel_is_launched())) {
        TRY(parallel_begin(&argc, &argv));
        TRY(arguments_agree(st, &a, OPTIONS, OPTION_COUNT));
        return tokenizer_train(&a);
    }
    TRY(st);
    TRY(parallel_check_single("tokenizer"));
    if (a.word_count == 0) FAIL(E_USAGE, USAGE, "`tokenizer` needs train, encode or decode");
    if (strcmp(a.words[0], "encode") == 0) return with_tokenizer(&a, encode);
    if (strcmp(a.words[0], "decode") == 0) return with_tokenizer(&a, decode);
    FAIL(E_USAGE, USAGE, "unknown action `%s` of tokenizer", a.words[0]);
}
