// sterna ckpt: lists, verifies and compares checkpoints; converts model directories.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "train/modeldir.h"
#include "train/modelfiles.h"

static const char *model_path, *out_path, *dtype_text = "F32", *shard_text = "0";
static const Option OPTIONS[] = {
    {"model", "DIR", "export: Hugging Face directory to read", &model_path},
    {"out", "DIR", "export: directory to write", &out_path},
    {"dtype", "F32|BF16|F16", "export: number type of the weights (F32)", &dtype_text},
    {"shard-mb", "N", "export: largest file in MiB, 0 for one file (0)", &shard_text},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };
static const char USAGE[] = "sterna ckpt ls | verify | diff | export, see --help";

void help_ckpt(void) {
    puts("usage: sterna ckpt ls RUN_DIR | CKPT_DIR\n"
         "       sterna ckpt verify STEP_DIR      checks every checksum, and that all values are "
         "finite\n"
         "       sterna ckpt diff DIR_A DIR_B     compares the tensors of two directories bit by "
         "bit;\n"
         "                                        exit code 65 when they differ\n"
         "       sterna ckpt export --model DIR --out DIR [--dtype F32|BF16|F16] [--shard-mb N]\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// ---- ls ----------------------------------------------------------------------------------------

typedef struct Listing {
    const char *dir;
    int count;
} Listing;

static Status add_size(const char *name, void *user) {
    void **both = user;  // directory, sum
    char path[PATH_BYTES];
    uint64_t bytes = 0;
    path_join(path, both[0], name);
    if (!path_is_dir(path)) TRY(file_size(path, &bytes));
    *(uint64_t *)both[1] += bytes;
    return OK;
}

static Status list_step(const char *name, void *user) {
    Listing *l = user;
    char path[PATH_BYTES];
    path_join(path, l->dir, name);
    if (strncmp(name, "step_", 5) != 0 || !path_is_dir(path)) return OK;
    if (l->count++ == 0) printf("%-20s %10s %14s %9s\n", "checkpoint", "step", "layout", "MB");
    Manifest m = {0};
    uint64_t bytes = 0;
    TRY(dir_each(path, add_size, (void *[]){path, &bytes}));
    if (checkpoint_manifest(path, &m) != OK) {
        print_result("%-20s %10s %14s %9.2f  not usable: %s\n", name, "-", "-", (double)bytes / 1e6,
                     err_message());
        err_clear();
    } else {
        char layout[64];
        snprintf(layout, sizeof layout, "%d x %d x %d", m.dp, m.sp, m.tp);
        print_result("%-20s %10lld %14s %9.2f\n", name, (long long)m.step, layout,
                     (double)bytes / 1e6);
    }
    manifest_free(&m);
    return OK;
}

// A run directory's checkpoints stand in its `ckpt`.
static Status list(const Arguments *a) {
    char below[PATH_BYTES];
    if (a->word_count != 2) FAIL(E_USAGE, USAGE, "`ckpt ls` takes one directory");
    path_join(below, a->words[1], "ckpt");
    Listing l = {.dir = path_is_dir(below) ? below : a->words[1]};
    TRY(dir_each(l.dir, list_step, &l));
    if (l.count == 0) print_result("%s: no checkpoints\n", l.dir);
    return OK;
}

static Status verify(const Arguments *a) {
    if (a->word_count != 2) FAIL(E_USAGE, USAGE, "`ckpt verify` takes one step directory");
    TRY(checkpoint_verify(a->words[1]));
    print_result("%s: valid\n", a->words[1]);
    return OK;
}

// ---- diff --------------------------------------------------------------------------------------

typedef struct Diff {
    const char *a, *b;
    int files, tensors, different;
} Diff;

// Largest |a - b|; infinity when one of them is not a number where the other is.
static Status largest_difference(const StFile *fa, const StTensor *a, const StFile *fb,
                                 const StTensor *b, double *out) {
    enum { PIECE = 1 << 15 };
    real *x = malloc(2 * PIECE * sizeof *x), *y = x + PIECE;
    ASSERT(x != NULL);
    uint64_t total = a->bytes / dtype_bytes(a->dtype);
    Status st = OK;
    *out = 0;
    for (uint64_t at = 0; at < total && st == OK; at += PIECE) {
        uint64_t n = total - at < PIECE ? total - at : PIECE;
        st = st_peek_reals(fa, a, x, at, n);
        if (st == OK) st = st_peek_reals(fb, b, y, at, n);
        for (uint64_t i = 0; st == OK && i < n; i++) {
            double d = fabs((double)x[i] - (double)y[i]);
            if (isnan(d)) d = memcmp(&x[i], &y[i], sizeof(real)) == 0 ? 0 : INFINITY;
            if (d > *out) *out = d;
        }
    }
    free(x);
    return st;
}

static bool same_shape(const StTensor *a, const StTensor *b) {
    return a->dtype == b->dtype && a->ndim == b->ndim && a->bytes == b->bytes &&
           memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof a->dim[0]) == 0;
}

static Status diff_tensor(Diff *d, const StFile *fa, const StTensor *a, const StFile *fb) {
    const StTensor *b = st_find(fb, a->name);
    d->tensors++;
    if (b != NULL && same_shape(a, b) &&
        memcmp(st_data(fa, a), st_data(fb, b), (size_t)a->bytes) == 0) {
        return OK;
    }
    d->different++;
    if (b == NULL) {
        print_result("%-44s only in %s\n", a->name, d->a);
    } else if (!same_shape(a, b)) {
        print_result("%-44s another type or shape\n", a->name);
    } else if (a->dtype == DTYPE_I64 || a->dtype == DTYPE_I32) {
        print_result("%-44s other integers\n", a->name);
    } else {
        double largest;
        TRY(largest_difference(fa, a, fb, b, &largest));
        print_result("%-44s differs by at most %.3g\n", a->name, largest);
    }
    return OK;
}

static Status diff_open_files(Diff *d, const StFile *fa, const StFile *fb) {
    for (int i = 0; i < st_count(fa); i++) TRY(diff_tensor(d, fa, st_tensor(fa, i), fb));
    for (int i = 0; i < st_count(fb); i++) {
        const StTensor *b = st_tensor(fb, i);
        if (st_find(fa, b->name) != NULL) continue;
        d->tensors++;
        d->different++;
        print_result("%-44s only in %s\n", b->name, d->b);
    }
    return OK;
}

static bool is_safetensors(const char *name) {
    size_t n = strlen(name), tail = strlen(".safetensors");
    return n > tail && strcmp(name + n - tail, ".safetensors") == 0;
}

static Status diff_file(const char *name, void *user) {
    Diff *d = user;
    if (!is_safetensors(name)) return OK;
    char pa[PATH_BYTES], pb[PATH_BYTES];
    path_join(pa, d->a, name);
    path_join(pb, d->b, name);
    d->files++;
    StFile *fa = NULL, *fb = NULL;
    Status st = st_open(&fa, pa);
    if (st == OK) st = st_open(&fb, pb);
    if (st == OK) st = diff_open_files(d, fa, fb);
    st_close(fa);
    st_close(fb);
    return st;
}

// Files that only the second directory has.
static Status find_extra(const char *name, void *user) {
    Diff *d = user;
    char path[PATH_BYTES];
    path_join(path, d->a, name);
    if (!is_safetensors(name)) return OK;
    Status there = path_look(path);
    if (there != E_MISSING) return there;
    FAIL(E_IO, "compare directories of the same kind", "%s: no such file", path);
}

static Status diff(const Arguments *a) {
    if (a->word_count != 3) FAIL(E_USAGE, USAGE, "`ckpt diff` takes two directories");
    Diff d = {.a = a->words[1], .b = a->words[2]};
    TRY(dir_each(d.a, diff_file, &d));
    TRY(dir_each(d.b, find_extra, &d));
    if (d.files == 0) {
        FAIL(E_FORMAT, "for example RUN/ckpt/step_00000100", "%s: no *.safetensors in it", d.a);
    }
    printf("%d tensors, %d differ\n", d.tensors, d.different);
    if (d.different == 0) return OK;
    FAIL(E_FORMAT, "the list above names them", "%s and %s: %d of %d tensors differ", d.a, d.b,
         d.different, d.tensors);
}

// ---- export ------------------------------------------------------------------------------------

typedef struct ExportType {
    const char *name, *config;  // on the command line; in config.json
    Dtype dtype;
} ExportType;

static Status read_dtype(ExportType *t) {
    static const ExportType TYPES[] = {{"F32", "float32", DTYPE_F32},
                                       {"BF16", "bfloat16", DTYPE_BF16},
                                       {"F16", "float16", DTYPE_F16}};
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
        *t = TYPES[i];
        if (strcmp(dtype_text, t->name) == 0) return OK;
    }
    FAIL(E_USAGE, "F32, BF16 or F16", "--dtype %s", dtype_text);
}

// Rather the files of other programs than ours: they may say more than this program reads.
static Status write_files(const ModelDir *d, const ExportType *t) {
    ModelFiles files = {
        .cfg = &d->model.cfg, .bpe = d->bpe, .dtype = t->config, .from = model_path};
    char path[PATH_BYTES];
    path_join(path, model_path, "tokenizer.json");
    if (d->bpe != NULL) TRY(file_read(path, &files.tokenizer.text, &files.tokenizer.bytes));
    Status st = modelfiles_write(&files, out_path);
    free(files.tokenizer.text);
    return st;
}

static Status write_model(const ModelDir *d, const ExportType *t, uint64_t shard_bytes) {
    TRY(hf_export(&d->model.params, out_path, t->dtype, shard_bytes));
    return write_files(d, t);
}

static Status export_model(const Arguments *a) {
    ExportType type;
    long shard_mb;
    if (model_path == NULL || out_path == NULL || a->word_count != 1) {
        FAIL(E_USAGE, "sterna ckpt export --model DIR --out DIR",
             "`ckpt export` needs --model and --out and nothing else");
    }
    TRY(read_dtype(&type));
    TRY(option_number(&shard_mb, "shard-mb", shard_text, 0, 1 << 30));
    TRY(output_check("out", out_path, true, &model_path, 1));
    TRY(hf_dir_check(out_path));
    ModelDir d = {.bpe = NULL};
    Status st = modeldir_open(&d, model_path, a, NULL, false);
    if (st == OK) st = write_model(&d, &type, (uint64_t)shard_mb << 20);
    if (st == OK) log_info("%s: %s, %s", out_path, model_dim_summary(&d.model.cfg), type.name);
    modeldir_close(&d);
    return st;
}

Status cmd_ckpt(int argc, char **argv) {
    Arguments a;
    TRY(arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT));
    if (a.word_count == 0 || strcmp(a.words[0], "export") != 0)
        TRY(arguments_no_settings(&a, "ckpt"));
    if (a.word_count == 0) FAIL(E_USAGE, USAGE, "`ckpt` needs ls, verify, diff or export");
    if (strcmp(a.words[0], "ls") == 0) return list(&a);
    if (strcmp(a.words[0], "verify") == 0) return verify(&a);
    if (strcmp(a.words[0], "diff") == 0) return diff(&a);
    if (strcmp(a.words[0], "export") == 0) return export_model(&a);
    FAIL(E_USAGE, USAGE, "unknown action `%s` of ckpt", a.words[0]);
}
