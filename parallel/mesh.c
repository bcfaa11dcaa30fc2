// The process mesh dp x sp x tp: ranks are numbered with tp fastest, so that the axis that talks
// most stays on a node.
#include <stddef.h>
#include <stdint.h>

#include "parallel/internal.h"

enum { AXIS_MAX = 1 << 20 };

// clang-format off
const Field MESH_FIELDS[] = {
    {"mesh.dp", CFG_INT, offsetof(MeshConfig, dp), 0, AXIS_MAX, "0", NULL,
     "ranks that share the rows of a batch (data parallelism); 0: all that were started", "ranks"},
    {"mesh.sp", CFG_INT, offsetof(MeshConfig, sp), 1, AXIS_MAX, "1", NULL,
     "ranks that share a sequence (sequence parallelism); only 1 in this version", "ranks"},
    {"mesh.tp", CFG_INT, offsetof(MeshConfig, tp), 1, AXIS_MAX, "1", NULL,
     "ranks that share a matrix (tensor parallelism); only 1 in this version", "ranks"},
};
// clang-format on
const int MESH_FIELD_COUNT = (int)(sizeof MESH_FIELDS / sizeof *MESH_FIELDS);

static Status extents_check(const MeshConfig *cfg, int size) {
    if (cfg->sp != 1 || cfg->tp != 1) {
        FAIL(
            E_USAGE, "set mesh.sp=1 and mesh.tp=1: ranks then share the rows of each batch",
            "mesh.sp is %d and mesh.tp is %d: sequence and tensor parallelism are not built yet in "
            "this version",
            cfg->sp, cfg->tp);
    }
    if (cfg->dp < 0) {
        FAIL(E_USAGE, "use 0 for as many as were started", "mesh.dp is %d, less than 0", cfg->dp);
    }
    int64_t product = (int64_t)cfg->dp * cfg->sp * cfg->tp;
    if (cfg->dp != 0 && product != size) {
        FAIL(E_LAUNCH,
             "start as many ranks as the product, or set mesh.dp=0 to use all that are started",
             "mesh.dp %d x mesh.sp %d x mesh.tp %d = %lld ranks, but %d %s started", cfg->dp,
             cfg->sp, cfg->tp, (long long)product, size, size == 1 ? "was" : "were");
    }
    return OK;
}

// The ranks that share everything but their place on one axis.
static Comm *axis_open(const Mesh *mesh, int colour, int place, bool background) {
    MPI_Comm handle;
    MPI_Comm_split(mesh->world->handle, colour, place, &handle);
    return comm__open(handle, background);
}

static void axes_open(Mesh *m) {
    m->tp_rank = m->rank % m->tp;
    m->sp_rank = m->rank / m->tp % m->sp;
    m->dp_rank = m->rank / (m->tp * m->sp);
    m->dp_axis = axis_open(m, m->sp_rank * m->tp + m->tp_rank, m->dp_rank, true);
    m->sp_axis = axis_open(m, m->dp_rank * m->tp + m->tp_rank, m->sp_rank, false);
    m->tp_axis = axis_open(m, m->dp_rank * m->sp + m->sp_rank, m->tp_rank, false);

    MPI_Comm node;
    MPI_Comm_split_type(m->world->handle, MPI_COMM_TYPE_SHARED, m->rank, MPI_INFO_NULL, &node);
    m->node = comm__open(node, false);
    m->node_rank = m->node->rank;
    m->node_size = m->node->size;
}

Status mesh_open(Mesh *mesh, const MeshConfig *cfg) {
    *mesh = (Mesh){0};
    MPI_Comm world;
    MPI_Comm_dup(MPI_COMM_WORLD, &world);
    mesh->world = comm__open(world, false);
    mesh->rank = mesh->world->rank;
    mesh->size = mesh->world->size;

    Status st = agree(extents_check(cfg, mesh->size), mesh->world);
    if (st != OK) {
        mesh_close(mesh);
        return st;
    }
    mesh->sp = cfg->sp;
    mesh->tp = cfg->tp;
    mesh->dp = mesh->size / (cfg->sp * cfg->tp);
    axes_open(mesh);
    return OK;
}

void mesh_close(Mesh *mesh) {
    comm__close(mesh->node);
    comm__close(mesh->tp_axis);
    comm__close(mesh->sp_axis);
    comm__close(mesh->dp_axis);
    comm__close(mesh->world);
    *mesh = (Mesh){0};
}
