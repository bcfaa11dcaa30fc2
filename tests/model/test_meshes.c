// Models on meshes that were never started: shapes, memory and refusals are arithmetic.
#include "made_model.h"
#include "parallel/mesh.h"

#define SMALL "model.width=24 model.heads=6 model.ffn=12 model.vocab=7 model.pad_id=-1 "

static Status open_on(Model *m, const char *settings, Mesh *mesh, int sp, int tp, int rank) {
    ModelConfig cfg;
    cr_assert_eq(made_config(&cfg, settings), OK, "%s", err_message());
    cr_assert_eq(mesh_plan(mesh, &(ParallelConfig){.sp = sp, .tp = tp}, sp * tp, rank), OK);
    return model_open(m, &cfg, mesh);
}

// Bytes an evaluation of a window of T tokens takes on one rank of the sp axis.
static size_t window_bytes(Model *m, int T) {
    int *bound = calloc((size_t)m->mesh->sp + 1, sizeof *bound);
    split_bounds(bound, T, m->mesh->sp);
    int tokens = bound[m->mesh->sp_rank + 1] - bound[m->mesh->sp_rank];
    Batch b = {.seq = {.B = 1, .T = tokens, .bound = bound}};
    Tape *tp = tape_new();
    tape_dry(tp, false);
    model_loss(tp, m, &b, NULL);
    tape_dry(tp, false);
    size_t bytes = tape_bytes(tp);
    tape_free(tp);
    free(bound);
    return bytes;
}

// Memory is reserved for the longest window; the last one is shorter, and cut less evenly.
static void check_windows(const char *pattern, int window, int sp) {
    enum { T = 97 };
    char settings[256];
    snprintf(settings, sizeof settings, SMALL "model.layers=1 model.pattern=%s model.window=%d",
             pattern, window);
    for (int rank = 0; rank < sp; rank++) {
        Model m;
        Mesh mesh;
        cr_assert_eq(open_on(&m, settings, &mesh, sp, 1, rank), OK);
        size_t most = window_bytes(&m, T);
        for (int n = 1; n < T; n++) {
            size_t bytes = window_bytes(&m, n);
            cr_assert_leq(bytes, most, "%s: %d tokens take %zu bytes on rank %d of %d, %d take %zu",
                          settings, n, bytes, rank, sp, T, most);
        }
        model_close(&m);
    }
}

Test(meshes, need_no_more_memory_for_shorter_windows) {
    const int windows[] = {2, 7, 20, 96};
    for (int sp = 2; sp <= 16; sp += sp < 5 ? 1 : 5) {
        for (int w = 0; w < 4; w++) check_windows("W", windows[w], sp);
        check_windows("L", 2, sp);
        check_windows("N", 2, sp);
    }
}

Test(meshes, divide_what_each_rank_holds) {
    Model whole, part;
    Mesh mesh;
    cr_assert_eq(open_on(&whole, SMALL "model.layers=2 model.pattern=LN", &mesh, 1, 1, 0), OK);
    size_t all = whole.params.total, elements = model_parameters(&whole);
    double flops = model_flops_per_token(&whole);
    model_close(&whole);
    for (int rank = 0; rank < 3; rank++) {
        cr_assert_eq(open_on(&part, SMALL "model.layers=2 model.pattern=LN", &mesh, 1, 3, rank),
                     OK);
        cr_assert(part.params.total + 100 > all / 3 && part.params.total < all / 3 + 600);
        cr_assert(model_parameters(&part) == elements && model_flops_per_token(&part) == flops);
        model_close(&part);
    }
}

static void expect_refused(const char *settings, int sp, int tp, const char *softmax,
                           const char *message, const char *hint) {
    ModelConfig cfg;
    Mesh mesh;
    ParallelConfig p = {.sp = sp, .tp = tp};
    snprintf(p.sp_softmax, sizeof p.sp_softmax, "%s", softmax);
    cr_assert_eq(made_config(&cfg, settings), OK, "%s", err_message());
    cr_assert_eq(mesh_plan(&mesh, &p, sp * tp, 0), OK);
    cr_assert_eq(model_check_mesh(&cfg, &mesh), E_USAGE);
    cr_assert_not_null(strstr(err_message(), message), "%s", err_message());
    cr_assert_not_null(strstr(err_hint(), hint), "%s", err_hint());
}

Test(meshes, that_do_not_divide_are_refused_with_the_values_that_do) {
    expect_refused(SMALL "model.layers=1", 1, 4, "", "parallel.tp=4 must divide model.heads=6",
                   "parallel.tp may be 1, 2, 3, 6");
    expect_refused(SMALL "model.layers=1 model.pattern=N model.kv_heads=2", 1, 3, "",
                   "model.kv_heads=2", "parallel.tp may be 1, 2");
    expect_refused(SMALL "model.layers=2 model.pattern=LN", 4, 1, "ulysses", "parallel.sp=4",
                   "parallel.sp may be 1, 2, 3, 6, or use parallel.sp_softmax=lasp2h");
    Mesh mesh;
    cr_assert_eq(mesh_plan(&mesh, &(ParallelConfig){.sp = 2, .tp = 2}, 6, 0), E_LAUNCH);
    cr_assert_eq(mesh_plan(&mesh, &(ParallelConfig){.dp = 2, .sp = 2}, 6, 0), E_LAUNCH);
}
