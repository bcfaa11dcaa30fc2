// The process among all: the start and the end of MPI. The only floor that calls it.
#pragma once

#include "base/status.h"

// MPI_Init_thread(FUNNELED) once per process; parallel_end frees what is left and finalizes.
// E_LAUNCH when a launcher's processes cannot reach each other or run other builds, E_USAGE when
// argv[0], the command, differs. Collective(world).
Status parallel_begin(int *argc, char ***argv) CHECKED;
void parallel_end(void);
_Noreturn void parallel_abort(int exit_code);  // MPI_Abort: takes all ranks down with this code
bool parallel_is_on(void);                     // parallel_begin has run
int parallel_world_rank(void);                 // 0 before parallel_begin
bool parallel_is_launched(void);  // by mpirun, or as one of several tasks: before parallel_begin
// E_LAUNCH when a launcher started the sub-command `what`, which never calls MPI, beside other
// ranks: they would wait for it, for ever where it ends with 0. Not collective.
Status parallel_check_single(const char *what) CHECKED;
