// The processor cores a process may use: its affinity mask, and the quota of its control group.
// What other processes do with them at the moment is no matter here: a run must have as many
// threads each time.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { CORES_MOST = 4096 };

// Plain data, so that processes can exchange it.
typedef struct Cores {
    uint64_t mask[CORES_MOST / 64];  // bit n: core n
    double quota;                    // cores' worth of time for all of the group, 0: no limit
    uint64_t group;  // of its control group's name: those with the same one share the quota
} Cores;

void cores_read(Cores *c);  // of this process; where nothing can be read, one core
int cores_count(
    const Cores *c);         // that its mask names, but no more than the quota is worth; at least 1
int cores_of_machine(void);  // online, whoever may use them
// Of the program that started this one, a launcher's before it binds ranks to cores of their own,
// or of this process where those are more; no more than this one's quota is worth.
int cores_of_launch(void);
// Threads for process `mine` of all[count], those that share a machine: its cores, each divided by
// the processes that may use it, and its share of the quota. Rounded down, at least 1.
int cores_share(const Cores *all, int count, int mine);
// The quota that `cgroup` (the text of /proc/self/cgroup) comes to under the file systems mounted
// at `root`, in cores; 0: none. Control groups nest: the narrowest counts. *group: a hash of the
// group's name.
double cores_quota(const char *root, const char *cgroup, uint64_t *group);
