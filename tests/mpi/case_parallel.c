// Cases of parallel/: agreement, exchanges of every size, and the reducer against a naive
// reduction, bit for bit. Values are functions of (rank, index), so that every rank knows what
// every other one holds.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "parallel/agree.h"
#include "parallel/internal.h"
#include "parallel/reduce.h"
#include "tensor/progress.h"
#include "parallel/world.h"
#include "tests/mpi/case.h"

// --- agree ---

static Status fails(const char *what, int rank) {
    FAIL(E_IO, "look at the disk", "%s of rank %d", what, rank);
}

static void agree_spreads_the_failing_ranks_message(const Mesh *mesh) {
    char expected[256];
    int last = mesh->size - 1;
    err_clear();
    CHECK(agree(OK, mesh->world) == OK);
    CHECK(err_message()[0] == '\0');

    Status st = agree(mesh->rank == last ? fails("one", last) : OK, mesh->world);
    CHECK(st == E_IO);
    snprintf(expected, sizeof expected,
             mesh->size > 1 ? "rank %d: one of rank %d" : "%.0done of rank %d",
             mesh->size > 1 ? last : 0, last);
    CHECK(strcmp(err_message(), expected) == 0);
    CHECK(strcmp(err_hint(), "look at the disk") == 0);
}

static void agree_prefers_the_worst_then_the_lowest(const Mesh *mesh) {
    // All ranks fail alike: the lowest speaks, and no rank is blamed.
    CHECK(agree(fails("all", mesh->rank), mesh->world) == E_IO);
    CHECK(strcmp(err_message(), "all of rank 0") == 0);

    // Everyone fails, the last rank with a higher status: its code and its words.
    Status mine = mesh->rank == mesh->size - 1
                      ? err_set(E_DIVERGED, "lower optim.lr", "loss is nan")
                      : fails("all", mesh->rank);
    CHECK(agree(mine, mesh->world) == E_DIVERGED);
    CHECK(strcmp(err_message(), "loss is nan") == 0);
    CHECK(strcmp(err_hint(), "lower optim.lr") == 0);

    // A status without words still says something, everywhere.
    err_clear();
    CHECK(agree(mesh->rank == 0 ? E_FORMAT : OK, mesh->world) == E_FORMAT);
    CHECK(strstr(err_message(), status_text(E_FORMAT)) != NULL);
    CHECK(agree(OK, mesh->world) == OK);
}

// --- mesh ---

static void mesh_places_ranks(const Mesh *mesh) {
    CHECK(mesh->dp * mesh->sp * mesh->tp == mesh->size);
    CHECK(mesh->dp_rank == mesh->rank && mesh->sp_rank == 0 && mesh->tp_rank == 0);
    CHECK(comm_size(mesh->team) == 1);
    CHECK(comm_rank(mesh->world) == mesh->rank && comm_size(mesh->world) == mesh->size);
    CHECK(comm_rank(mesh->replicas) == mesh->rank && comm_size(mesh->replicas) == mesh->size);
    CHECK(comm_size(mesh->sp_axis) == 1 && comm_size(mesh->tp_axis) == 1);
    CHECK(mesh->node_rank == comm_rank(mesh->node) && mesh->node_size == comm_size(mesh->node));
    CHECK(mesh->node_size >= 1 && mesh->node_size <= mesh->size);
    CHECK(parallel_is_on());
}

static void mesh_refuses_what_does_not_fit(const Mesh *mesh) {
    Mesh m;
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = mesh->size + 1, .sp = 1, .tp = 1}) == E_LAUNCH);
    char equation[160];
    snprintf(equation, sizeof equation,
             "parallel.dp %d x parallel.sp 1 x parallel.tp 1 = %d ranks, but %d w", mesh->size + 1,
             mesh->size + 1, mesh->size);
    CHECK(strstr(err_message(), equation) != NULL);
    CHECK(m.world == NULL);
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = 1 << 30, .sp = 1, .tp = 1}) == E_LAUNCH);
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = 1, .sp = mesh->size + 1, .tp = 1}) == E_LAUNCH);
    CHECK(strstr(err_message(), "parallel.sp") != NULL);
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = 0, .sp = 1, .tp = mesh->size + 1}) == E_LAUNCH);
    CHECK(strstr(err_message(), "parallel.tp") != NULL);
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = -1, .sp = 1, .tp = 1}) == E_LAUNCH);
    mesh_close(&m);  // a mesh that never opened

    // One rank with another configuration fails on all.
    int dp = mesh->rank == mesh->size - 1 ? mesh->size + 1 : mesh->size;
    CHECK(mesh_open(&m, &(ParallelConfig){.dp = dp, .sp = 1, .tp = 1}) == E_LAUNCH);
}

// --- sums and checks ---

enum { SUM_COUNT = 777 };

static double summand(int rank, int i) {
    return rng_normal(7, STREAM_TEST, (uint64_t)rank * SUM_COUNT + (uint64_t)i) *
           (i % 3 == 0 ? 1e12 : 1e-3);
}

static void sums_fold_in_rank_order(const Mesh *mesh) {
    double values[SUM_COUNT];
    for (int count = 0; count <= SUM_COUNT; count += count < 3 ? 1 : 129) {
        for (int i = 0; i < count; i++) values[i] = summand(mesh->rank, i);
        comm_sum_doubles(mesh->world, values, count);
        for (int i = 0; i < count; i++) {
            double sum = summand(0, i);
            for (int r = 1; r < mesh->size; r++) sum += summand(r, i);
            CHECK(memcmp(&sum, &values[i], sizeof sum) == 0);
        }
    }
    comm_check_same(mesh->world, hash64(values, sizeof values), "sums");
}

static void integers_sum_and_max(const Mesh *mesh) {
    int64_t size = mesh->size, v[2] = {((int64_t)1 << 40) + mesh->rank, -1 - mesh->rank}, w[2];
    memcpy(w, v, sizeof w);
    comm_sum_i64(mesh->world, v, 2);
    CHECK(v[0] == size * ((int64_t)1 << 40) + size * (size - 1) / 2);
    CHECK(v[1] == -size * (size + 1) / 2);
    comm_max_i64(mesh->world, w, 2);
    CHECK(w[0] == ((int64_t)1 << 40) + size - 1 && w[1] == -1);
    comm_max_i64(mesh->world, w, 0);
}

// --- exchanges of bytes ---

static char byte_at(int from, int to, size_t i) {
    return (char)(rng_u64((uint64_t)from, (uint64_t)to, i / 8) >> (i % 8 * 8));
}

// Uneven, with empty ones, and large enough for many chunks when chunks are small.
static size_t bytes_between(int from, int to) {
    return (size_t)((from * 5 + to * 3) % 4) * 1237;
}

static void alltoall_round(const Mesh *mesh, bool all_empty) {
    size_t offsets[17] = {0}, got[17];
    CHECK(mesh->size <= 16);
    for (int r = 0; r < mesh->size; r++) {
        offsets[r + 1] = offsets[r] + (all_empty ? 0 : bytes_between(mesh->rank, r));
    }
    char *send = offsets[mesh->size] > 0 ? malloc(offsets[mesh->size]) : NULL, *recv = NULL;
    for (int r = 0; r < mesh->size; r++) {
        size_t n = offsets[r + 1] - offsets[r];
        for (size_t i = 0; i < n; i++) send[offsets[r] + i] = byte_at(mesh->rank, r, i);
    }
    CHECK(comm_alltoall_bytes(mesh->world, send, offsets, &recv, got) == OK);
    CHECK(recv != NULL && got[0] == 0);
    for (int r = 0; r < mesh->size; r++) {
        size_t n = all_empty ? 0 : bytes_between(r, mesh->rank);
        CHECK(got[r + 1] - got[r] == n);
        for (size_t i = 0; i < n; i++) CHECK(recv[got[r] + i] == byte_at(r, mesh->rank, i));
    }
    free(send);
    free(recv);
}

static void allgather_round(const Mesh *mesh, bool all_empty) {
    size_t got[17], n = all_empty ? 0 : bytes_between(mesh->rank, 0);
    char *mine = n > 0 ? malloc(n) : NULL, *all = NULL;
    for (size_t i = 0; i < n; i++) mine[i] = byte_at(mesh->rank, 0, i);
    CHECK(comm_allgather_bytes(mesh->world, mine, n, &all, got) == OK);
    CHECK(all != NULL && got[0] == 0);
    for (int r = 0; r < mesh->size; r++) {
        size_t theirs = all_empty ? 0 : bytes_between(r, 0);
        CHECK(got[r + 1] - got[r] == theirs);
        for (size_t i = 0; i < theirs; i++) CHECK(all[got[r] + i] == byte_at(r, 0, i));
    }
    free(mine);
    free(all);
}

static void bcast_round(const Mesh *mesh, size_t bytes) {
    char *data = malloc(bytes + 1);
    for (int root = 0; root < mesh->size; root++) {
        for (size_t i = 0; i < bytes; i++) data[i] = mesh->rank == root ? byte_at(root, 1, i) : 0;
        comm_bcast(mesh->world, data, bytes, root);
        for (size_t i = 0; i < bytes; i++) CHECK(data[i] == byte_at(root, 1, i));
    }
    free(data);
}

// Everyone passes to the next rank, even ranks first: blocking messages of more than a MiB do not
// fit any buffer.
static void ring_round(const Mesh *mesh, size_t bytes) {
    if (mesh->size == 1) return;
    int to = (mesh->rank + 1) % mesh->size, from = (mesh->rank + mesh->size - 1) % mesh->size;
    char *out = malloc(bytes + 1), *in = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++) out[i] = byte_at(mesh->rank, 2, i);
    bool sends_first = mesh->rank % 2 == 0 && mesh->rank != mesh->size - 1;
    if (sends_first) comm_send(mesh->world, out, bytes, to, 3);
    comm_recv(mesh->world, in, bytes, from, 3);
    if (!sends_first) comm_send(mesh->world, out, bytes, to, 3);
    for (size_t i = 0; i < bytes; i++) CHECK(in[i] == byte_at(from, 2, i));
    free(out);
    free(in);
}

static void bytes_arrive_whatever_the_sizes(const Mesh *mesh) {
    size_t whole = mesh->world->chunk_bytes;
    const size_t chunks[] = {whole, 1000, 7};  // the limit of MPI's int, made small
    for (int c = 0; c < 3; c++) {
        mesh->world->chunk_bytes = chunks[c];
        alltoall_round(mesh, false);
        alltoall_round(mesh, true);
        allgather_round(mesh, false);
        allgather_round(mesh, true);
        bcast_round(mesh, 0);
        bcast_round(mesh, 3001);
        ring_round(mesh, 0);
        ring_round(mesh, 3001);
    }
    mesh->world->chunk_bytes = whole;
    ring_round(mesh, ((size_t)3 << 20) + 5);
}

static void counters_grow_by_what_is_sent(const Mesh *mesh) {
    char data[100] = {0};
    CommStat before = comm_stat(COMM_CONTROL), all = comm_stat_all();
    comm_bcast(mesh->world, data, sizeof data, 0);
    CommStat after = comm_stat(COMM_CONTROL);
    int others = mesh->rank == 0 ? mesh->size - 1 : 0;
    CHECK(after.bytes - before.bytes == 100.0 * others && after.calls - before.calls == 1);
    CHECK(after.wait_s >= before.wait_s && after.exposed_s - before.exposed_s >= 0);
    CHECK(comm_stat_all().bytes - all.bytes == 100.0 * others);
    for (int u = 0; u < COMM_USE_COUNT; u++) CHECK(comm_use_text((CommUse)u)[0] != '\0');
}

// --- reducer ---

typedef struct Shapes {
    int rows, dim0[12], dim1[12];
} Shapes;

static void set_open(ParamSet *ps, const Shapes *s) {
    *ps = (ParamSet){0};
    for (int i = 0; i < s->rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "row.%d", i);
        params_add(ps, name, 2, (int[]){s->dim0[i], s->dim1[i]}, INIT_NORMAL, 0.1);
    }
    if (s->rows > 3) ps->rows[1].late = true;
    CHECK(params_reserve(ps, true) == OK);
}

// Sizes far apart, so that the order of additions shows in the bits.
static real gradient(int rank, int step, size_t i) {
    uint64_t stream = (uint64_t)(rank * 100 + step);
    double scale = i % 5 == 0 ? 1e4 : i % 7 == 0 ? 1e-4 : 1;
    return (real)(scale * rng_normal(11, stream, i));
}

// The row's gradient appears only now: an exchange that started before sends the zeros that were
// there.
static void row_differentiate(ParamSet *ps, int row, int rank, int step) {
    size_t end = row + 1 < ps->count ? ps->rows[row + 1].offset : ps->total;
    for (size_t i = ps->rows[row].offset; i < end; i++) ps->grad[i] = gradient(rank, step, i);
}

// A backward pass: rows are reported in an order of this rank's own, some never, with progress in
// between at will.
static void rows_report(Reducer *r, ParamSet *ps, int rank, int step) {
    CHECK(ps->count % 5 != 0);  // or the order below repeats rows
    for (int k = 0; k < ps->count; k++) {
        int row = step % 3 == 0 ? ps->count - 1 - k : (k * 5 + rank + step) % ps->count;
        row_differentiate(ps, row, rank, step);
        if ((row + step) % 4 != 3) reducer_ready(r, &ps->rows[row]);
        for (int i = 0; i < (rank + k) % 3; i++) reducer_progress(r);
    }
}

// A rank without data has no backward pass, and whatever its gradient holds takes part.
static void rows_skip(ParamSet *ps, int rank, int step) {
    for (int row = 0; row < ps->count; row++) row_differentiate(ps, row, rank, step);
}

static bool in_a_row(const ParamSet *ps, size_t i) {
    int row = 0;
    while (row + 1 < ps->count && ps->rows[row + 1].offset <= i) row++;
    return i < ps->rows[row].offset + ps->rows[row].count;
}

// The owned ranges hold the naive sum in rank order; what a step costs in volume is that of a
// reduce-scatter.
static void step_check(const Mesh *mesh, Reducer *r, ParamSet *ps, int step) {
    params_zero_grad(ps);
    CommStat before = comm_stat(COMM_GRADIENTS);
    reducer_ready(r, &ps->rows[0]);  // before begin: an earlier micro-batch, ignored
    reducer_begin(r);
    if (step % 2 == 1 && mesh->rank == mesh->size - 1) {
        rows_skip(ps, mesh->rank, step);
    } else {
        rows_report(r, ps, mesh->rank, step);
    }
    reducer_finish(r);
    CommStat after = comm_stat(COMM_GRADIENTS);

    int count = 0;
    size_t owned = 0;
    double norm = 0;
    const Range *ranges = reducer_shard(r, &count);
    for (int k = 0; k < count; k++) {
        owned += ranges[k].count;
        for (size_t i = ranges[k].begin; i < ranges[k].begin + ranges[k].count; i++) {
            real sum = gradient(0, step, i);
            for (int from = 1; from < mesh->size; from++) sum += gradient(from, step, i);
            CHECK(memcmp(&sum, &ps->grad[i], sizeof sum) == 0);
            if (in_a_row(ps, i)) norm += (double)sum * (double)sum;
        }
    }
    CHECK(after.bytes - before.bytes == (double)(ps->total - owned) * sizeof(real));
    CHECK(fabs(reducer_sqnorm(r) - norm) <= 1e-6 * norm);
}

// Ascending, disjoint, and together with those of the others everything once.
static void ranges_check(const Mesh *mesh, const Reducer *r, size_t total) {
    int count = 0;
    const Range *ranges = reducer_shard(r, &count);
    int64_t *owners = calloc(total + 1, sizeof *owners);
    for (int k = 0; k < count; k++) {
        CHECK(ranges[k].count > 0 && ranges[k].begin + ranges[k].count <= total);
        CHECK(k == 0 || ranges[k].begin > ranges[k - 1].begin + ranges[k - 1].count);
        for (size_t i = 0; i < ranges[k].count; i++) owners[ranges[k].begin + i]++;
    }
    comm_sum_i64(mesh->world, owners, (int)total);
    for (size_t i = 0; i < total; i++) CHECK(owners[i] == 1);
    if (mesh->size == 1) CHECK(count == (total > 0) && (count == 0 || ranges[0].count == total));
    free(owners);
}

static void gather_check(const Mesh *mesh, Reducer *r, ParamSet *ps, int step) {
    int count = 0;
    const Range *ranges = reducer_ranges(r, &count);
    reducer_share(r);
    memset(ps->data, 0, ps->total * sizeof *ps->data);
    for (int k = 0; k < count; k++) {
        for (size_t i = ranges[k].begin; i < ranges[k].begin + ranges[k].count; i++) {
            ps->data[i] = gradient(99, step, i);
        }
    }
    reducer_gather_weights(r);
    for (size_t i = 0; i < ps->total; i++) CHECK(ps->data[i] == gradient(99, step, i));
    comm_check_same(mesh->world, params_hash(ps), "weights after the gather");
}

static void reducer_check(const Mesh *mesh, const Shapes *shapes, size_t bucket_bytes,
                          size_t limit) {
    ParamSet ps;
    Reducer *r = NULL;
    set_open(&ps, shapes);
    CHECK(reducer__open(&r, mesh, &ps, bucket_bytes, limit) == OK);
    ranges_check(mesh, r, ps.total);
    for (int step = 0; step < 5; step++) {
        step_check(mesh, r, &ps, step);
        gather_check(mesh, r, &ps, step);
    }
    reducer_close(r);
    params_free(&ps);
}

// clang-format off
static const Shapes SHAPES[] = {
    {1, {1}, {1}},
    {1, {7}, {301}},
    {3, {1, 3, 7}, {1, 1, 3}},
    {7, {37, 1, 16, 1, 5, 64, 3}, {33, 7, 16, 1, 129, 31, 1}},
    {12, {100, 64, 1, 64, 1, 64, 64, 1, 9, 64, 1, 100}, {64, 65, 64, 3, 64, 64, 130, 64, 9, 64, 64, 64}},
};
// clang-format on
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

static void reducer_equals_naive_sum(const Mesh *mesh) {
    const size_t least_bytes[] = {0, 64, 4096, 20000, (size_t)1 << 24};
    for (int s = 0; s < SHAPE_COUNT; s++) {
        for (size_t b = 0; b < sizeof least_bytes / sizeof *least_bytes; b++) {
            reducer_check(mesh, &SHAPES[s], least_bytes[b], (size_t)1 << 28);
        }
    }
}

static void reducer_cuts_huge_rows(const Mesh *mesh) {
    const size_t limits[] = {16, 48, 1024};
    for (int s = 0; s < SHAPE_COUNT - 1; s++) {
        for (int l = 0; l < 3; l++) reducer_check(mesh, &SHAPES[s], 4096, limits[l]);
    }
}

static void reducer_takes_an_empty_set(const Mesh *mesh) {
    ParamSet ps = {0};
    Reducer *r = NULL;
    int count = -1;
    CHECK(reducer_open(&r, mesh, &ps, 1 << 20) == OK);
    reducer_ranges(r, &count);
    CHECK(count == 0);
    reducer_begin(r);
    reducer_progress(r);
    reducer_finish(r);
    reducer_gather_weights(r);
    reducer_close(r);
    reducer_close(NULL);
}

static void check_sums(const Reducer *r, const ParamSet *ps, const Mesh *mesh, int factor) {
    int count = 0;
    const Range *ranges = reducer_ranges(r, &count);
    for (int k = 0; k < count; k++)
        for (size_t i = ranges[k].begin; i < ranges[k].begin + ranges[k].count; i++)
            CHECK(ps->grad[i] == (real)(factor * mesh->size * (mesh->size + 1) / 2));
}

// Background exchanges have a communicator of their own: other collectives of the axis may come in
// between, at other places on each rank; and so may those of another reducer, whose buckets wait
// for room in its window meanwhile.
static void reducer_runs_beside_other_collectives(const Mesh *mesh) {
    ParamSet ps, other;
    Reducer *r = NULL, *second = NULL;
    set_open(&ps, &SHAPES[4]);
    set_open(&other, &SHAPES[4]);
    CHECK(reducer_open(&r, mesh, &ps, 4096) == OK);
    CHECK(reducer_open(&second, mesh, &other, 64) == OK);
    for (size_t i = 0; i < ps.total; i++) ps.grad[i] = (real)(mesh->rank + 1);
    for (size_t i = 0; i < other.total; i++) other.grad[i] = (real)(3 * (mesh->rank + 1));
    reducer_begin(r);
    reducer_begin(second);
    for (int k = 0; k < ps.count; k++) {
        double one = 1;
        const Param *p = &ps.rows[ps.count - 1 - k], *q = &other.rows[ps.count - 1 - k];
        if (mesh->rank % 2 == 0) reducer_ready(r, p);
        if (mesh->rank % 2 == 1) reducer_ready(second, q);
        comm_sum_doubles(mesh->replicas, &one, 1);
        CHECK(one == mesh->size);
        if (mesh->rank % 2 == 1) reducer_ready(r, p);
        progress();
        if (mesh->rank % 2 == 0) reducer_ready(second, q);
    }
    reducer_finish(r);
    reducer_finish(second);
    check_sums(r, &ps, mesh, 1);
    check_sums(second, &other, mesh, 3);
    reducer_close(r);
    reducer_close(second);
    params_free(&ps);
    params_free(&other);
}

// --- cases that must end in a panic on two ranks and more; ctest expects exit code 70 ---

static void panic_when_weights_differ(const Mesh *mesh) {
    comm_check_same(mesh->world, mesh->rank == mesh->size - 1 && mesh->size > 1 ? 2 : 1, "weights");
}

// Only in debug builds; others would exchange nonsense, or wait.
static void panic_when_calls_differ(const Mesh *mesh) {
    double value = 1;
    if (mesh->rank == 0) {
        comm_barrier(mesh->world);
    } else {
        comm_sum_doubles(mesh->world, &value, 1);
    }
}

// The others wait for a message that never comes: the one in the collective says so.
static void panic_when_a_rank_stays_away(const Mesh *mesh) {
#ifdef __SANITIZE_ADDRESS__
    check__set_patience(1);
#endif
    char data[1];
    if (mesh->rank == 0) comm_barrier(mesh->world);
    comm_recv(mesh->world, data, 1, 0, 1);
}

const MpiCase CASES_PARALLEL[] = {
    {"agree_spreads_the_failing_ranks_message", agree_spreads_the_failing_ranks_message},
    {"agree_prefers_the_worst_then_the_lowest", agree_prefers_the_worst_then_the_lowest},
    {"mesh_places_ranks", mesh_places_ranks},
    {"mesh_refuses_what_does_not_fit", mesh_refuses_what_does_not_fit},
    {"sums_fold_in_rank_order", sums_fold_in_rank_order},
    {"integers_sum_and_max", integers_sum_and_max},
    {"bytes_arrive_whatever_the_sizes", bytes_arrive_whatever_the_sizes},
    {"counters_grow_by_what_is_sent", counters_grow_by_what_is_sent},
    {"reducer_equals_naive_sum", reducer_equals_naive_sum},
    {"reducer_cuts_huge_rows", reducer_cuts_huge_rows},
    {"reducer_takes_an_empty_set", reducer_takes_an_empty_set},
    {"reducer_runs_beside_other_collectives", reducer_runs_beside_other_collectives},
    {"panic_when_weights_differ", panic_when_weights_differ},
    {"panic_when_calls_differ", panic_when_calls_differ},
    {"panic_when_a_rank_stays_away", panic_when_a_rank_stays_away},
    {NULL, NULL},
};
