// bench_sp: the program behind bench/sp, bench/overlap and bench/memory. Started by mpirun.
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/bench.h"
#include "tensor/gemm.h"

static const char USAGE[] =
    "mpirun -n RANKS bench_sp step METHOD key=value ... | overlap key=value ... | check | machine";

static Status run_step(int argc, char **argv) {
    const char *words[64];
    char sp[64];
    int count = 0, ranks;
    const Method *m = argc > 0 ? method_find(argv[0]) : NULL;
    if (m == NULL) FAIL(E_USAGE, USAGE, "unknown method `%s`", argc > 0 ? argv[0] : "");
    TRY(bench_ranks(&ranks));
    snprintf(sp, sizeof sp, "parallel.sp=%d", ranks);
    words[count++] = sp;
    for (int i = 0; i < 3 && m->settings[i] != NULL; i++) words[count++] = m->settings[i];
    for (int i = 1; i < argc && count < 64; i++) words[count++] = argv[i];
    return bench_step(m, words, count);
}

static Status run_command(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "step") == 0) return run_step(argc - 2, argv + 2);
    if (strcmp(command, "overlap") == 0)
        return bench_overlap((const char *const *)argv + 2, argc - 2);
    if (strcmp(command, "check") == 0) return bench_check();
    if (strcmp(command, "machine") == 0) {
        if (parallel_world_rank() == 0) puts(gemm_library());
        return OK;
    }
    FAIL(E_USAGE, USAGE, "unknown command `%s`", command);
}

int main(int argc, char **argv) {
    Status st = parallel_begin(&argc, &argv);
    if (st == OK) st = run_command(argc, argv);
    if (st != OK) log_error(st);
    parallel_end();
    return status_exit_code(st);
}
