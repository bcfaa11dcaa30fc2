// Affinity by sched_getaffinity(2), quotas by control groups of both versions (cgroups(7)).
#define _GNU_SOURCE  // sched_getaffinity and the macros of its sets
#include "base/cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

_Static_assert(CORES_MOST % CPU_SETSIZE == 0, "whole sets");

static bool has_core(const Cores *c, int core) {
    return (c->mask[core / 64] >> (core % 64) & 1) != 0;
}

static void read_mask(Cores *c, pid_t process) {
    enum { SETS = CORES_MOST / CPU_SETSIZE };
    cpu_set_t sets[SETS];
    memset(sets, 0, sizeof sets);
    if (sched_getaffinity(process, sizeof sets, sets) != 0) CPU_SET_S(0, sizeof sets, sets);
    for (int i = 0; i < CORES_MOST; i++) {
        if (CPU_ISSET_S((size_t)i, sizeof sets, sets)) c->mask[i / 64] |= 1ULL << (i % 64);
    }
}

// The file's text, "" when there is none: not every system has every file. Owned by the caller.
static char *text_of(const char *path) {
    char *text = NULL;
    if (path_exists(path) && file_read(path, &text, NULL) == OK) return text;
    err_clear();
    free(text);
    return calloc(1, 1);
}

static char *text_below(const char *dir, const char *name) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n >= 0 && n < PATH_BYTES ? text_of(path) : calloc(1, 1);
}

// "MAX PERIOD" of version 2, or the two files of version 1; 0: "max", -1, or no such file.
static double quota_here(const char *dir, bool v2) {
    char *quota = text_below(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us"), *end = NULL;
    char *period = v2 ? NULL : text_below(dir, "cpu.cfs_period_us");
    double used = quota == NULL ? 0 : strtod(quota, &end);
    double of = v2               ? (end == NULL ? 0 : strtod(end, NULL))
                : period == NULL ? 0
                                 : strtod(period, NULL);
    free(quota);
    free(period);
    return used > 0 && of > 0 ? used / of : 0;
}

// From the group up to the root. Inside of a container the names above its own may not exist.
static double quota_up(const char *mount, const char *group, bool v2) {
    char dir[PATH_BYTES];
    double least = 0;
    size_t root = strlen(mount);
    int n = snprintf(dir, sizeof dir, "%s%s", mount, group);
    if (n < 0 || n >= PATH_BYTES) return 0;
    for (;;) {
        double quota = quota_here(dir, v2);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= root || slash == NULL || slash < dir + root) return least;
        *slash = '\0';
    }
}

// Whether the comma-separated list of controllers holds "cpu".
static bool names_cpu(const char *list, size_t bytes) {
    for (const char *at = list, *end = list + bytes; at < end;) {
        size_t n = strcspn(at, ",:");
        if (n == 3 && memcmp(at, "cpu", 3) == 0) return true;
        at += n + 1;
    }
    return false;
}

// One line: "number:controllers:group"; version 2 has the number 0 and no controllers.
static double quota_of_line(const char *root, char *line, uint64_t *group) {
    char *list = strchr(line, ':'), *name = list == NULL ? NULL : strchr(list + 1, ':');
    if (name == NULL) return 0;
    bool v2 = name == list + 1;
    if (!v2 && !names_cpu(list + 1, (size_t)(name - list - 1))) return 0;
    char mount[PATH_BYTES];
    int n = snprintf(mount, sizeof mount, "%s%s", root, v2 ? "" : "/cpu");
    if (n < 0 || n >= PATH_BYTES) return 0;
    *group ^= hash64(name, strlen(name));
    return quota_up(mount, strcmp(name + 1, "/") == 0 ? "" : name + 1, v2);
}

double cores_quota(const char *root, const char *cgroup, uint64_t *group) {
    char *copy = strdup(cgroup), *rest = NULL;
    double least = 0;
    ASSERT(copy != NULL);
    *group = 0;
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        double quota = quota_of_line(root, line, group);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
    }
    free(copy);
    return least;
}

void cores_read(Cores *c) {
    *c = (Cores){.quota = 0};
    read_mask(c, 0);
    char *cgroup = text_of("/proc/self/cgroup");
    c->quota = cgroup == NULL ? 0 : cores_quota("/sys/fs/cgroup", cgroup, &c->group);
    free(cgroup);
}

int cores_count(const Cores *c) {
    return cores_share(c, 1, 0);
}

int cores_of_launch(void) {
    Cores mine, launcher;
    cores_read(&mine);
    launcher = (Cores){.quota = mine.quota};
    read_mask(&launcher, getppid());
    int own = cores_count(&mine), all = cores_count(&launcher);
    return own > all ? own : all;
}

int cores_of_machine(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (int)cores : 1;
}

int cores_share(const Cores *all, int count, int mine) {
    double share = 0;
    int group = 0;
    for (int core = 0; core < CORES_MOST; core++) {
        int users = 0;
        if (!has_core(&all[mine], core)) continue;
        for (int p = 0; p < count; p++) users += has_core(&all[p], core);
        share += 1.0 / users;
    }
    for (int p = 0; p < count; p++) group += all[p].group == all[mine].group;
    double quota = all[mine].quota / group;
    if (quota > 0 && quota < share) share = quota;
    int threads = (int)(share + 1e-9);  // sums of thirds
    return threads > 1 ? threads : 1;
}
