// Cores and their shares, quotas of control groups.
#include <stdio.h>

#include "base/cores.h"
#include "tests/base/temp.h"

// A process that may use cores [from, to).
static Cores on(int from, int to) {
    Cores c = {.quota = 0};
    for (int i = from; i < to; i++) c.mask[i / 64] |= 1ULL << (i % 64);
    return c;
}

Test(cores, unbound_processes_share_them_evenly) {
    const int cores[] = {1, 2, 3, 8, 64, 200, CORES_MOST};
    for (size_t k = 0; k < sizeof cores / sizeof *cores; k++) {
        for (int n = 1; n <= 9; n++) {
            Cores all[9];
            for (int p = 0; p < n; p++) all[p] = on(0, cores[k]);
            int wanted = cores[k] / n > 0 ? cores[k] / n : 1;
            for (int p = 0; p < n; p++) cr_assert_eq(cores_share(all, n, p), wanted);
        }
    }
}

Test(cores, bound_processes_have_their_own) {
    Cores all[] = {on(0, 4), on(4, 8), on(64, 65), on(4, 8), on(70, 70)};
    const int wanted[] = {4, 2, 1, 2, 1};
    for (int p = 0; p < 5; p++) cr_assert_eq(cores_share(all, 5, p), wanted[p], "process %d", p);
    cr_assert_eq(cores_count(&all[0]), 4);
}

Test(cores, a_quota_is_shared_by_its_group) {
    Cores all[] = {on(0, 64), on(0, 64), on(0, 64)};
    for (int p = 0; p < 3; p++) all[p].quota = 5.5, all[p].group = p == 2;
    cr_assert_eq(cores_share(all, 3, 0), 2);  // of 5.5, for two
    cr_assert_eq(cores_share(all, 3, 2), 5);  // alone in its group
    all[2].quota = 0.5;
    cr_assert_eq(cores_share(all, 3, 2), 1);
    all[2].quota = 1e6;
    cr_assert_eq(cores_share(all, 3, 2), 21);
}

Test(cores, there_is_at_least_one_here) {
    Cores here;
    cores_read(&here);
    cr_assert_geq(cores_count(&here), 1);
    cr_assert_leq(cores_count(&here), cores_of_machine());
    cr_assert_geq(cores_of_launch(), cores_count(&here));
}

static void put(const char *root, const char *dir, const char *name, const char *text) {
    char below[PATH_BYTES], path[PATH_BYTES];
    path_join(below, root, dir);
    ASSERT_OK(dir_make(below));
    path_join(path, below, name);
    ASSERT_OK(file_write(path, text, strlen(text)));
}

Test(cores, quotas_of_both_versions) {
    char root[PATH_BYTES];
    uint64_t group, other;
    temp_open(root);
    put(root, "a", "cpu.max", "400000 100000\n");
    put(root, "a/b", "cpu.max", "max 100000\n");
    put(root, "a/b/c", "cpu.max", "650000 100000\n");
    cr_assert_eq(cores_quota(root, "0::/a/b/c\n", &group), 4);  // the narrowest is two above
    cr_assert_eq(cores_quota(root, "0::/a/b/c/gone\n", &other), 4);
    cr_assert_neq(group, other);
    cr_assert_eq(cores_quota(root, "0::/d\n", &group), 0);
    cr_assert_eq(cores_quota(root, "0::/\n", &group), 0);
    put(root, ".", "cpu.max", "150000 100000\n");  // a container's own
    cr_assert_eq(cores_quota(root, "0::/\n", &group), 1.5);
    cr_assert_eq(cores_quota(root, "0::/../../elsewhere\n", &group), 1.5);

    put(root, "cpu/x", "cpu.cfs_quota_us", "-1\n");
    put(root, "cpu/x", "cpu.cfs_period_us", "100000\n");
    put(root, "cpu/x/y", "cpu.cfs_quota_us", "50000\n");
    put(root, "cpu/x/y", "cpu.cfs_period_us", "100000\n");
    cr_assert_eq(cores_quota(root, "5:cpuset:/x/y\n4:cpuacct,cpu:/x/y\n", &group), 0.5);
    cr_assert_eq(cores_quota(root, "5:cpuset:/x/y\n4:cpu:/x\n1:name=systemd:/\n", &group), 0);
    temp_close(root);
}

Test(cores, nonsense_is_no_quota) {
    char root[PATH_BYTES];
    uint64_t group;
    temp_open(root);
    put(root, "a", "cpu.max", "many few\n");
    put(root, "b", "cpu.max", "");
    put(root, "c", "cpu.max", "100000 0\n");
    const char *const texts[] = {
        "", "\n", "0", "0:", "0::", "0::/a\n", "0::/b", "0::/c\n", "::::\n", "x:cpu\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect_eq(cores_quota(root, texts[i], &group), 0, "'%s'", texts[i]);
    temp_close(root);
}
