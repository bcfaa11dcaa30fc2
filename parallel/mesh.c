// The process mesh dp x sp x tp: ranks are numbered with tp fastest, so that the axis that talks
// most stays on a node.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "parallel/internal.h"

enum { AXIS_MAX = 1 << 20 };

#define AT(member) offsetof(ParallelConfig, member)
// clang-format off
const Field PARALLEL_FIELDS[] = {
    {"parallel.dp", CFG_INT, AT(dp), 0, AXIS_MAX, "0", NULL,
     "ranks that share the rows of a batch (data parallelism); 0: what sp and tp leave", "ranks", KEY_FREE},
    {"parallel.sp", CFG_INT, AT(sp), 1, AXIS_MAX, "1", NULL,
     "ranks that share each sequence (sequence parallelism)", "ranks", KEY_FREE},
    {"parallel.tp", CFG_INT, AT(tp), 1, AXIS_MAX, "1", NULL,
     "ranks that share each matrix (tensor parallelism); divides heads, kv_heads and ffn", "ranks", KEY_FREE},
    {"parallel.sp_linear", CFG_TEXT, AT(sp_linear), 0, 0, "lasp2", "lasp2|lasp2_scan|lasp",
     "how linear layers pass states along a sequence: one all-gather, a scan, or a ring", "", KEY_FREE},
    {"parallel.sp_softmax", CFG_TEXT, AT(sp_softmax), 0, 0, "lasp2h", "lasp2h|ring|ulysses",
     "how softmax layers share keys and values: all-gather, ring attention, or all-to-all by heads", "", KEY_FREE},
    {"parallel.zero", CFG_BOOL, AT(zero), 0, 0, "true", NULL,
     "moments are divided among the dp x sp ranks (ZeRO-1) instead of kept by each", "", KEY_FREE},
};
// clang-format on
const int PARALLEL_FIELD_COUNT = (int)(sizeof PARALLEL_FIELDS / sizeof *PARALLEL_FIELDS);

static int at_least_1(int extent) {
    return extent < 1 ? 1 : extent;
}

static Status extents_check(const ParallelConfig *cfg, int size) {
    int sp = at_least_1(cfg->sp), tp = at_least_1(cfg->tp);
    int64_t team = (int64_t)sp * tp, product = cfg->dp * team;
    if (cfg->dp == 0 && size % team != 0) {
        FAIL(E_LAUNCH, "start a multiple of the product, or lower parallel.sp or parallel.tp",
             "parallel.sp %d x parallel.tp %d = %lld ranks a sequence, but %d %s started, no "
             "multiple of it",
             sp, tp, (long long)team, size, size == 1 ? "was" : "were");
    }
    if (cfg->dp != 0 && product != size) {
        FAIL(E_LAUNCH,
             "start as many ranks as the product, or set parallel.dp=0 to use all that are started",
             "parallel.dp %d x parallel.sp %d x parallel.tp %d = %lld ranks, but %d %s started",
             cfg->dp, sp, tp, (long long)product, size, size == 1 ? "was" : "were");
    }
    return OK;
}

// The keys' tables have checked the words; a mesh made by hand may leave them empty.
static void methods_take(Mesh *m, const ParallelConfig *cfg) {
    m->sp_linear = strcmp(cfg->sp_linear, "lasp2_scan") == 0 ? SP_LASP2_SCAN
                   : strcmp(cfg->sp_linear, "lasp") == 0     ? SP_LASP
                                                             : SP_LASP2;
    m->sp_softmax = strcmp(cfg->sp_softmax, "ring") == 0      ? SP_RING
                    : strcmp(cfg->sp_softmax, "ulysses") == 0 ? SP_ULYSSES
                                                              : SP_LASP2H;
    m->zero = cfg->zero;
}

Status mesh_plan(Mesh *m, const ParallelConfig *cfg, int size, int rank) {
    *m = (Mesh){.rank = rank, .size = size, .node_size = 1};
    TRY(extents_check(cfg, size));
    methods_take(m, cfg);
    m->sp = at_least_1(cfg->sp);
    m->tp = at_least_1(cfg->tp);
    m->dp = size / (m->sp * m->tp);
    m->tp_rank = rank % m->tp;
    m->sp_rank = rank / m->tp % m->sp;
    m->dp_rank = rank / (m->tp * m->sp);
    return OK;
}

// The ranks of one colour, ordered as in the world.
static Comm *axis_open(const Mesh *mesh, const char *name, int colour) {
    MPI_Comm handle;
    MPI_Comm_split(mesh->world->handle, colour, mesh->rank, &handle);
    return comm__open(handle, name);
}

static void axes_open(Mesh *m) {
    m->sp_axis = axis_open(m, "sp", m->dp_rank * m->tp + m->tp_rank);
    m->tp_axis = axis_open(m, "tp", m->dp_rank * m->sp + m->sp_rank);
    m->replicas = axis_open(m, "replicas", m->tp_rank);
    m->team = axis_open(m, "team", m->dp_rank);

    MPI_Comm node;
    MPI_Comm_split_type(m->world->handle, MPI_COMM_TYPE_SHARED, m->rank, MPI_INFO_NULL, &node);
    m->node = comm__open(node, "node");
    m->node_rank = m->node->rank;
    m->node_size = m->node->size;
}

Status mesh_open(Mesh *mesh, const ParallelConfig *cfg) {
    MPI_Comm handle;
    MPI_Comm_dup(MPI_COMM_WORLD, &handle);
    Comm *world = comm__open(handle, "world");
    Status st = agree(mesh_plan(mesh, cfg, world->size, world->rank), world);
    mesh->world = world;
    if (st == OK) {
        axes_open(mesh);
    } else {
        mesh_close(mesh);
    }
    return st;
}

void mesh_close(Mesh *mesh) {
    comm__close(mesh->node);
    comm__close(mesh->team);
    comm__close(mesh->replicas);
    comm__close(mesh->tp_axis);
    comm__close(mesh->sp_axis);
    comm__close(mesh->world);
    *mesh = (Mesh){0};
}
