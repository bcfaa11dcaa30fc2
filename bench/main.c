// bench_sp: the program behind bench/sp, bench/overlap and bench/memory. Started by mpirun.
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/bench.h"
#include "parallel/world.h"
#include "tensor/gemm.h"
#include "tensor/start.h"

static const char USAGE[] = "mpirun -n RANKS bench_sp step METHOD key=value ... | race METHOD ... "
                            "key=value ... | overlap key=value ... | check | machine";

enum { MAX_SETTINGS = 64, MAX_METHODS = 8 };

// METHOD ... key=value ...: what a sequence over all ranks takes.
typedef struct Words {
    const Method *methods[MAX_METHODS];
    int method_count, setting_count;
    const char *settings[MAX_SETTINGS];
    char sp[64], pattern[64];
} Words;

static Status words_read(Words *w, int argc, char **argv) {
    int ranks, i = 0;
    TRY(bench_ranks(&ranks));
    *w = (Words){.method_count = 0};
    for (; i < argc && strchr(argv[i], '=') == NULL && i < MAX_METHODS; i++) {
        w->methods[i] = method_find(argv[i]);
        if (w->methods[i] == NULL) FAIL(E_USAGE, USAGE, "unknown method `%s`", argv[i]);
        if (w->methods[i]->pattern != w->methods[0]->pattern)
            FAIL(E_USAGE, USAGE, "%s and %s are for other layers", argv[0], argv[i]);
    }
    if (i == 0) FAIL(E_USAGE, USAGE, "no method is named");
    w->method_count = i;
    snprintf(w->sp, sizeof w->sp, "parallel.sp=%d", ranks);
    snprintf(w->pattern, sizeof w->pattern, "model.pattern=%c", w->methods[0]->pattern);
    w->settings[w->setting_count++] = w->sp;
    w->settings[w->setting_count++] = w->pattern;
    while (i < argc && w->setting_count < MAX_SETTINGS) w->settings[w->setting_count++] = argv[i++];
    return OK;
}

static Status run_sequence(bool is_race, int argc, char **argv) {
    Words w;
    TRY(words_read(&w, argc, argv));
    if (is_race) return bench_race(w.methods, w.method_count, w.settings, w.setting_count);
    return bench_step(w.methods[0], w.settings, w.setting_count);
}

static Status run_command(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "step") == 0) return run_sequence(false, argc - 2, argv + 2);
    if (strcmp(command, "race") == 0) return run_sequence(true, argc - 2, argv + 2);
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
    libraries_prepare(argv);
    Status st = parallel_begin(&argc, &argv);
    if (st == OK) st = run_command(argc, argv);
    if (st != OK) log_error(st);
    parallel_end();
    return status_exit_code(st);
}
