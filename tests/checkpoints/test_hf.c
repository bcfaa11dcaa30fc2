// Hugging Face directories: byte-identical round trips, and what is refused by name.
#include <math.h>

#include "checkpoints/internal.h"
#include "tests/checkpoints/scratch.h"

TestSuite(hf, .init = scratch_open, .fini = scratch_close);

static const char EMBEDDING[] = "model.embed_tokens.weight", HEAD[] = "lm_head.weight";

// A small model's rows, with values that all 16-bit formats hold exactly.
static ParamSet rows_new(bool head) {
    ParamSet ps = {0};
    params_add(&ps, EMBEDDING, 2, (int[]){7, 3}, INIT_NORMAL, 1);
    params_add(&ps, "model.layers.0.token_mixer.lrpe.theta", 3, (int[]){3, 1, 1}, INIT_LRPE, 0);
    params_add(&ps, "model.layers.0.channel_mixer.l1.weight", 2, (int[]){5, 3}, INIT_NORMAL, 1);
    if (head) params_add(&ps, HEAD, 2, (int[]){7, 3}, INIT_NORMAL, 1);
    cr_assert_eq(params_reserve(&ps, false), OK);
    for (int i = 0; i < ps.count; i++) {
        for (size_t j = 0; j < ps.rows[i].count; j++) {
            ps.rows[i].data[j] = (real)((i + 1) * 16 + (int)j) / 8;
        }
    }
    return ps;
}

static void expect_same_rows(const ParamSet *a, const ParamSet *b) {
    cr_assert_eq(params_hash(a), params_hash(b));
}

static void expect_same_file(const char *a, const char *b) {
    char *x, *y;
    size_t nx, ny;
    cr_assert_eq(file_read(scratch_path(a), &x, &nx), OK, "%s", err_message());
    cr_assert_eq(file_read(scratch_path(b), &y, &ny), OK, "%s", err_message());
    cr_assert(nx == ny && memcmp(x, y, nx) == 0, "%s and %s differ", a, b);
    free(x);
    free(y);
}

static Status import(ParamSet *ps, const char *dir, bool tied) {
    Dtype stored;
    return hf_import(ps, scratch_path(dir), tied, &stored);
}

static void expect_refused(ParamSet *ps, const char *dir, bool tied, const char *cause) {
    memset(ps->data, 0, ps->total * sizeof(real));
    uint64_t before = params_hash(ps);
    cr_assert_eq(import(ps, dir, tied), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), cause), "'%s' is not in: %s", cause, err_message());
    cr_assert(err_hint()[0] != '\0');
    cr_assert_eq(params_hash(ps), before, "weights were touched");
}

static void export(const ParamSet *ps, const char *dir, Dtype d, uint64_t max_bytes) {
    cr_assert_eq(hf_export(ps, scratch_path(dir), d, max_bytes), OK, "%s", err_message());
}

Test(hf, one_file_goes_round_in_every_format) {
    const Dtype formats[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16};
    for (int i = 0; i < 4; i++) {
        ParamSet a = rows_new(true), b = rows_new(true);
        memset(a.rows[1].data, 0, a.rows[1].count * sizeof(real));  // theta is not exact in 16 bits
        memset(b.data, 0, b.total * sizeof(real));
        export(&a, "a", formats[i], 0);
        Dtype stored = DTYPE_I32;
        cr_assert_eq(hf_import(&b, scratch_path("a"), false, &stored), OK, "%s", err_message());
        cr_assert_eq(stored, formats[i]);
        expect_same_rows(&a, &b);
        export(&b, "b", stored, 0);
        expect_same_file("a/model.safetensors", "b/model.safetensors");
        params_free(&a);
        params_free(&b);
    }
}

Test(hf, shards_and_their_index_go_round) {
    ParamSet a = rows_new(true), b = rows_new(true);
    memset(b.data, 0, b.total * sizeof(real));
    export(&a, "a", DTYPE_F32, 100);  // 84, 12 | 60 | 84 bytes: three shards
    cr_assert(!path_exists(scratch_path("a/model.safetensors")));
    cr_assert_eq(hf_import(&b, scratch_path("a"), false, NULL), OK, "%s", err_message());
    expect_same_rows(&a, &b);
    export(&b, "b", DTYPE_F32, 100);
    expect_same_file("a/model.safetensors.index.json", "b/model.safetensors.index.json");
    expect_same_file("a/model-00001-of-00003.safetensors", "b/model-00001-of-00003.safetensors");
    expect_same_file("a/model-00002-of-00003.safetensors", "b/model-00002-of-00003.safetensors");
    expect_same_file("a/model-00003-of-00003.safetensors", "b/model-00003-of-00003.safetensors");
    params_free(&a);
    params_free(&b);
}

Test(hf, an_export_replaces_one_of_the_other_kind) {
    ParamSet a = rows_new(true), b = rows_new(true);
    export(&a, "a", DTYPE_F32, 1);
    a.rows[0].data[0] = 5;
    export(&a, "a", DTYPE_F32, 0);
    cr_assert(!path_exists(scratch_path("a/model.safetensors.index.json")));
    cr_assert_eq(import(&b, "a", false), OK);
    expect_same_rows(&a, &b);
    a.rows[0].data[0] = 6;
    export(&a, "a", DTYPE_F32, 1);
    cr_assert_eq(import(&b, "a", false), OK);
    expect_same_rows(&a, &b);
    params_free(&a);
    params_free(&b);
}

// The draft of the last shard cannot be made.
Test(hf, an_export_that_fails_midway_leaves_the_earlier_one) {
    ParamSet a = rows_new(true), b = rows_new(true);
    export(&a, "a", DTYPE_F32, 100);
    a.rows[0].data[0] = 5;
    cr_assert_eq(dir_make(scratch_path("a/model-00003-of-00003.safetensors" DRAFT_SUFFIX)), OK);
    cr_assert_eq(hf_export(&a, scratch_path("a"), DTYPE_F32, 100), E_IO);
    a.rows[0].data[0] = 2;
    cr_assert_eq(import(&b, "a", false), OK, "%s", err_message());
    expect_same_rows(&a, &b);
    cr_assert(!path_exists(scratch_path("a/model-00001-of-00003.safetensors" DRAFT_SUFFIX)));
    params_free(&a);
    params_free(&b);
}

static void expect_diverged(Status st, const char *cause) {
    cr_assert_eq(st, E_DIVERGED, "%s", status_name(st));
    cr_assert_not_null(strstr(err_message(), cause), "'%s' is not in: %s", cause, err_message());
}

Test(hf, an_export_that_does_not_fit_leaves_the_directory_alone) {
    ParamSet a = rows_new(true);
    export(&a, "before", DTYPE_F32, 100);
    export(&a, "a", DTYPE_F32, 100);
    a.rows[2].data[4] = (real)-65520;
    expect_diverged(hf_export(&a, scratch_path("a"), DTYPE_F16, 0),
                    "l1.weight', element [1, 1]: -65520 is out of the range of F16");
    expect_diverged(hf_export(&a, scratch_path("new"), DTYPE_F16, 100), "out of the range of F16");
    a.rows[3].data[20] = (real)INFINITY;
    expect_diverged(hf_export(&a, scratch_path("a"), DTYPE_F32, 0),
                    "lm_head.weight', element [6, 2] is not finite (inf)");
    cr_assert(!path_exists(scratch_path("new")));
    cr_assert(!path_exists(scratch_path("a/model.safetensors")));
    expect_same_file("a/model.safetensors.index.json", "before/model.safetensors.index.json");
    expect_same_file("a/model-00002-of-00003.safetensors",
                     "before/model-00002-of-00003.safetensors");
    a.rows[3].data[20] = 0;
    export(&a, "a", DTYPE_BF16, 0);
    params_free(&a);
}

// A file that another program wrote; ours would refuse to. One NaN in place of the value.
static void spoil(const char *name, double value) {
    char *text;
    size_t bytes;
    const float old = (float)value, nan = NAN;
    cr_assert_eq(file_read(scratch_path(name), &text, &bytes), OK);
    char *at = text;
    while (memcmp(at, &old, sizeof old) != 0) cr_assert(++at < text + bytes - sizeof old);
    memcpy(at, &nan, sizeof nan);
    scratch_write(name, text, bytes);
    free(text);
}

Test(hf, a_weight_that_is_not_finite_is_not_imported) {
    ParamSet a = rows_new(true);
    a.rows[2].data[7] = (real)1234.5;
    export(&a, "one", DTYPE_F32, 0);
    export(&a, "three", DTYPE_F32, 100);
    spoil("one/model.safetensors", 1234.5);
    spoil("three/model-00002-of-00003.safetensors", 1234.5);
    expect_diverged(import(&a, "one", false),
                    "one/model.safetensors: tensor 'model.layers.0.channel_mixer.l1.weight', "
                    "element [2, 1] is not finite (nan)");
    expect_diverged(import(&a, "three", false), "three/model-00002-of-00003.safetensors: tensor");
    params_free(&a);
}

Test(hf, missing_extra_and_misshapen_tensors_are_named) {
    ParamSet with = rows_new(true), without = rows_new(false);
    export(&without, "without", DTYPE_F32, 0);
    export(&with, "with", DTYPE_F32, 0);
    expect_refused(&with, "without", false, "'lm_head.weight' is missing");
    expect_refused(&without, "with", false, "'lm_head.weight' has no place");
    with.rows[2].dim[0] = 3, with.rows[2].dim[1] = 5;
    expect_refused(&with, "with", false, "has shape [5, 3], the model wants [3, 5]");
    cr_assert_eq(import(&with, "nowhere", false), E_IO);
    cr_assert_not_null(strstr(err_message(), "model.safetensors"));
    params_free(&with);
    params_free(&without);
}

// Tensors of one file; the last is an addition to the rows of a tied model.
static void write_with_extra(const char *path, const StSource *extra) {
    ParamSet ps = rows_new(false);
    StSource src[4] = {{.data = NULL}};
    for (int i = 0; i < ps.count; i++) {
        const Param *p = &ps.rows[i];
        src[i] = (StSource){{.dtype = DTYPE_F32, .ndim = p->ndim}, p->data};
        snprintf(src[i].t.name, sizeof src[i].t.name, "%s", p->name);
        for (int d = 0; d < p->ndim; d++) src[i].t.dim[d] = p->dim[d];
    }
    src[3] = *extra;
    cr_assert_eq(st_write(path, src, 4), OK, "%s", err_message());
    params_free(&ps);
}

Test(hf, keys_without_weights_are_ignored) {
    ParamSet ps = rows_new(false);
    real version = 3;
    StSource extra = {{.name = "decoder.version", .dtype = DTYPE_F32, .ndim = 1, .dim = {1}},
                      &version};
    cr_assert_eq(dir_make(scratch_path("a")), OK);
    write_with_extra(scratch_path("a/model.safetensors"), &extra);
    cr_assert_eq(import(&ps, "a", true), OK, "%s", err_message());
    params_free(&ps);
}

Test(hf, integer_weights_are_refused) {
    ParamSet ps = rows_new(false);
    int64_t ids[21] = {0};
    params_add(&ps, "ids", 2, (int[]){7, 3}, INIT_ONE, 0);
    cr_assert_eq(params_reserve(&ps, false), OK);
    StSource extra = {{.name = "ids", .dtype = DTYPE_I64, .ndim = 2, .dim = {7, 3}}, ids};
    cr_assert_eq(dir_make(scratch_path("a")), OK);
    write_with_extra(scratch_path("a/model.safetensors"), &extra);
    expect_refused(&ps, "a", true, "'ids' holds integers (I64)");
    arena_close(&ps.arena);
    free(ps.rows);
}

Test(hf, a_tied_head_must_equal_the_embedding) {
    ParamSet ps = rows_new(false), twin = rows_new(false);
    StSource extra = {{.name = "lm_head.weight", .dtype = DTYPE_BF16, .ndim = 2, .dim = {7, 3}},
                      twin.rows[0].data};
    cr_assert_eq(dir_make(scratch_path("a")), OK);
    write_with_extra(scratch_path("a/model.safetensors"),
                     &extra);  // equal values in another format
    cr_assert_eq(hf_check_tied(scratch_path("a")), OK);
    cr_assert_eq(import(&ps, "a", true), OK, "%s", err_message());
    expect_same_rows(&ps, &twin);

    twin.rows[0].data[20] += 1;
    write_with_extra(scratch_path("a/model.safetensors"), &extra);
    cr_assert_eq(hf_check_tied(scratch_path("a")), E_FORMAT);
    cr_assert(strstr(err_message(), "lm_head.weight") && strstr(err_hint(), "config.json"));
    expect_refused(&ps, "a", true, "tie_word_embeddings");

    export(&twin, "b", DTYPE_F32, 0);
    cr_assert_eq(hf_check_tied(scratch_path("b")), OK);
    params_free(&ps);
    params_free(&twin);
}

static void write_index(const char *weight_map) {
    char text[1024];
    int n = snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":%s}", weight_map);
    scratch_write("a/model.safetensors.index.json", text, (size_t)n);
}

Test(hf, an_index_cannot_lead_out_of_its_directory) {
    ParamSet ps = rows_new(false);
    export(&ps, "a", DTYPE_F32, 0);
    cr_assert_eq(rename(scratch_path("a/model.safetensors"), scratch_path("outside.safetensors")),
                 0);
    const char *names[] = {"../outside.safetensors", "/etc/passwd", "..", ".", "",
                           "sub/model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char map[256];
        snprintf(map, sizeof map, "{\"%s\":\"%s\"}", EMBEDDING, names[i]);
        write_index(map);
        expect_refused(&ps, "a", true, "no plain file name");
    }
    write_index("{\"model.embed_tokens.weight\":7}");
    expect_refused(&ps, "a", true, "= 7: a text");
    write_index("[]");
    expect_refused(&ps, "a", true, "weight_map");
    params_free(&ps);
}

Test(hf, index_and_shards_must_tell_the_same_story) {
    ParamSet ps = rows_new(false);
    export(&ps, "a", DTYPE_F32, 0);
    cr_assert_eq(rename(scratch_path("a/model.safetensors"), scratch_path("a/one.safetensors")), 0);
    write_index(
        "{\"model.embed_tokens.weight\":\"one.safetensors\",\"ghost\":\"one.safetensors\"}");
    expect_refused(&ps, "a", true, "'ghost' is not in 'one.safetensors'");
    write_index("{\"model.embed_tokens.weight\":\"one.safetensors\"}");
    expect_refused(&ps, "a", true, "is not listed");
    write_index("{\"model.embed_tokens.weight\":\"two.safetensors\"}");
    cr_assert_eq(import(&ps, "a", true), E_IO);
    cr_assert_not_null(strstr(err_message(), "two.safetensors"));
    params_free(&ps);
}

Test(hf, export_below_a_file_fails_with_a_hint) {
    ParamSet ps = rows_new(false);
    scratch_write("file", "x", 1);
    cr_assert_eq(hf_export(&ps, scratch_path("file/dir"), DTYPE_F32, 0), E_IO);
    cr_assert(err_hint()[0] != '\0');
    params_free(&ps);
}
