#include "tensor/threads.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

// A thread that waits looks this often, 30 to 60 microseconds, before it sleeps. docs/results.md,
// "Threads".
static const char SPINS[] = "1000";

typedef struct Choice {
    int share, cores, processes;
} Choice;
static Choice choice = {1, 1, 1};

// OpenMP itself passes over what is no number.
static bool user_chose(void) {
    const char *text = getenv("OMP_NUM_THREADS");
    return text != NULL && strtol(text, NULL, 10) > 0;
}

bool threads_limit_spinning(void) {
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) return false;
    if (omp_get_max_threads() == 1) return false;  // alone, or told to be
    setenv("GOMP_SPINCOUNT", SPINS, 1);
    return true;
}

static void choose(const Choice *c) {
    choice = *c;
    if (!user_chose()) omp_set_num_threads(c->share);
}

// Cores that anyone of all[count] may use, as far as their quota goes.
static int cores_of_all(const Cores *all, int count, int mine) {
    Cores any = {.quota = all[mine].quota};
    for (int p = 0; p < count; p++)
        for (size_t i = 0; i < sizeof any.mask / sizeof any.mask[0]; i++)
            any.mask[i] |= all[p].mask[i];
    return cores_count(&any);
}

void threads_choose(const Cores *all, int count, int mine) {
    choose(&(Choice){cores_share(all, count, mine), cores_of_all(all, count, mine), count});
}

void threads_choose_alone(int ranks) {
    Cores here;
    cores_read(&here);
    int cores = cores_count(&here), share = cores / ranks;
    choose(&(Choice){share > 1 ? share : 1, cores, ranks});
}

int threads_chosen(void) {
    return omp_get_max_threads();
}

static const char *plural(int n) {
    return n == 1 ? "" : "s";
}

const char *threads_text(void) {
    static char text[160];
    int n = threads_chosen(), more = cores_of_launch();
    char ranks[32] = "", bound[64] = "";
    if (choice.processes > 1) snprintf(ranks, sizeof ranks, ", %d ranks", choice.processes);
    if (more > choice.cores) snprintf(bound, sizeof bound, " of %d: bound by the launcher", more);
    snprintf(text, sizeof text, "%d%s (%d core%s%s%s%s)", n, choice.processes > 1 ? " a rank" : "",
             choice.cores, plural(choice.cores), bound, ranks,
             user_chose() ? ", OMP_NUM_THREADS is set" : "");
    return text;
}

const char *threads_complaint(void) {
    static char text[200];
    int n = threads_chosen();
    if (!user_chose() || n <= choice.share) return NULL;
    snprintf(text, sizeof text,
             "OMP_NUM_THREADS=%d: %d threads of %d rank%s take turns on %d core%s, which is slow; "
             "unset it "
             "for %d a rank",
             n, n * choice.processes, choice.processes, plural(choice.processes), choice.cores,
             plural(choice.cores), choice.share);
    return text;
}
