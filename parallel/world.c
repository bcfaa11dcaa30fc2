// All ranks of the job before there is a mesh: command line and configuration are read by every
// rank alone.
#include "parallel/internal.h"

int parallel_world_rank(void) {
    int rank = 0;
    if (parallel_is_on()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

Status parallel_agree(Status mine) {
    struct Comm world = {.handle = MPI_COMM_WORLD, .axis = "world"};
    MPI_Comm_rank(world.handle, &world.rank);
    MPI_Comm_size(world.handle, &world.size);
    return agree(mine, &world);
}
