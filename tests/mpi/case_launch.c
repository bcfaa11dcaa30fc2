// Cases of parallel/launch.c and of agreement on what ranks were told: what differs is named on all
// of them, and nobody waits.
#include <stdio.h>
#include <string.h>

#include "base/build.h"
#include "parallel/agree.h"
#include "parallel/internal.h"
#include "parallel/mesh.h"
#include "tests/mpi/case.h"

static bool says(const char *text) {
    return strstr(err_message(), text) != NULL;
}

static void other_builds_and_commands_are_named(const Mesh *mesh) {
    int last = mesh->size - 1;
    char rank[64];
    CHECK(launch__check_same(build_text(), "train") == OK);

    snprintf(rank, sizeof rank, "rank %d runs another build than rank 0: ", last);
    CHECK(launch__check_same(mesh->rank == last ? "sterna 9 (f64)" : "sterna 9 (f32)", "train") ==
          E_LAUNCH);
    CHECK(says(rank) && says("sterna 9 (f64); rank 0: sterna 9 (f32)"));

    // Rank 0 is the odd one; the build is told before the command, as another one may have others.
    bool first = mesh->rank == 0;
    CHECK(launch__check_same(first ? "a" : "b", first ? "train" : "eval") == E_LAUNCH);
    CHECK(says("rank 1") && says("another build") && says(": b; rank 0: a"));
    char more[32];
    snprintf(more, sizeof more, "(and %d more)", mesh->size - 2);
    CHECK(says(more) == (mesh->size > 2));

    char expected[128];
    snprintf(expected, sizeof expected, "rank %d was started with `eval`, rank 0 with `train`",
             last);
    CHECK(launch__check_same("a", mesh->rank == last ? "eval" : "train") == E_USAGE);
    CHECK(strcmp(err_message(), expected) == 0);
}

static void what_ranks_were_told_is_compared(const Mesh *mesh) {
    int last = mesh->size - 1;
    bool odd = mesh->rank == last;
    char rank[32];
    snprintf(rank, sizeof rank, "rank %d: ", last);
    CHECK(agree_same(E_USAGE, "tell them", "a: 1\nb: 2\n", mesh->world) == OK);
    CHECK(agree_same(E_USAGE, "", "", mesh->world) == OK);

    // Another value, a key that only one has, and texts of other lengths.
    CHECK(agree_same(E_USAGE, "tell them", odd ? "a: 1\nb: 3\n" : "a: 1\nb: 2\n", mesh->world) ==
          E_USAGE);
    CHECK(says(rank) && says("b: 2 -> 3") && !says("a: 1"));
    CHECK(strcmp(err_hint(), "tell them") == 0);
    CHECK(agree_same(E_LAUNCH, "", odd ? "" : "a: 1\n", mesh->world) == E_LAUNCH);
    CHECK(says(rank) && says("a: 1 -> (none)"));
    CHECK(agree_same(E_LAUNCH, "", odd ? "a: 1\nb: 2\nc: 3\n" : "b: 2\n", mesh->world) == E_LAUNCH);
    CHECK(says("a: (none) -> 1; c: (none) -> 3"));

    // All but the first differ: the lowest of them speaks.
    CHECK(agree_same(E_USAGE, "",
                     mesh->rank == 0 ? "a: 0\n"
                     : odd           ? "a: 2\n"
                                     : "a: 1\n",
                     mesh->world) == E_USAGE);
    CHECK(says("rank 1: ") && says(mesh->size == 2 ? "a: 0 -> 2" : "a: 0 -> 1"));

    // A rank that cannot read its words fails before they are compared, with its own status.
    Status mine = OK;
    if (odd) mine = err_set(E_IO, "look", "no file");
    CHECK(parallel_agree_told(mine, mesh->rank == 0 ? "a: 1\n" : "a: 2\n") == E_IO);
    CHECK(says("no file"));
    CHECK(parallel_agree_told(OK, mesh->rank == 0 ? "a: 1\n" : "a: 2\n") == E_USAGE);
    CHECK(says("rank 1: ") && says("a: 1 -> 2"));
}

const MpiCase CASES_LAUNCH[] = {
    {"other_builds_and_commands_are_named", other_builds_and_commands_are_named},
    {"what_ranks_were_told_is_compared", what_ranks_were_told_is_compared},
    {NULL, NULL},
};
