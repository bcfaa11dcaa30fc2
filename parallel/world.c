// All ranks of the job before there is a mesh: command line and configuration are read by every
// rank alone.
#include <limits.h>
#include <stdlib.h>

#include "parallel/internal.h"

int parallel_world_rank(void) {
    int rank = 0;
    if (parallel_is_on()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static struct Comm world_comm(void) {
    struct Comm world = {.handle = MPI_COMM_WORLD, .axis = "world", .chunk_bytes = INT_MAX};
    MPI_Comm_rank(world.handle, &world.rank);
    MPI_Comm_size(world.handle, &world.size);
    return world;
}

Status parallel_agree(Status mine) {
    struct Comm world = world_comm();
    return agree(mine, &world);
}

Status parallel_agree_told(Status mine, const char *lines) {
    struct Comm world = world_comm();
    TRY(agree(mine, &world));
    return agree_same(E_USAGE, "give all ranks the same options, settings and configuration file",
                      lines, &world);
}

Status parallel_agree_config(Status mine, const Config *c) {
    char *dump = config_dump(c);
    Status st = parallel_agree_told(mine, dump);
    free(dump);
    return st;
}
