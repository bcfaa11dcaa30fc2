// A place is known by device and inode. Of a path that does not exist yet, the longest part that
// does is known, and the names behind it.
#include "base/path.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

typedef struct Place {
    struct stat part;     // of what exists
    char real[PATH_MAX];  // its absolute path without links
    const char *rest;     // names behind it, in the path asked about
} Place;

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// Cuts the last name off; ends with "/" or, where no part is left, with ".": true.
static bool cut_name(char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    memcpy(path + n, n == 0 ? "." : "", n == 0 ? 2 : 1);
    return n == 0;
}

static bool place_find(Place *p, const char *path) {
    char part[PATH_BYTES];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return false;
    memcpy(part, path, n + 1);
    bool relative = false;
    while (stat(part, &p->part) != 0) {
        if (relative || strcmp(part, "/") == 0) return false;
        relative = cut_name(part);
    }
    p->rest = relative ? path : path + strlen(part);
    return realpath(part, p->real) != NULL;
}

// The next name of a rest, without "." and doubled slashes. false: there is none.
static bool next_name(const char **rest, const char **name, size_t *bytes) {
    do {
        *rest += strspn(*rest, "/");
        *name = *rest;
        *bytes = strcspn(*rest, "/");
        *rest += *bytes;
    } while (*bytes == 1 && **name == '.');
    return *bytes > 0;
}

// All names of `outer` come first in `inner`.
static bool rest_begins(const char *inner, const char *outer) {
    const char *a, *b;
    size_t n, m;
    while (next_name(&outer, &b, &m)) {
        if (!next_name(&inner, &a, &n) || n != m || memcmp(a, b, n) != 0) return false;
    }
    return true;
}

// From `real` up to the root.
static bool climbs_to(char real[PATH_MAX], const struct stat *top) {
    struct stat s;
    for (;;) {
        if (stat(real, &s) == 0 && same_file(&s, top)) return true;
        if (strcmp(real, "/") == 0) return false;
        (void)cut_name(real);
    }
}

bool path_is_within(const char *inner, const char *outer) {
    Place in, out;
    const char *name;
    size_t bytes;
    if (!place_find(&in, inner) || !place_find(&out, outer)) return false;
    const char *rest = out.rest;
    bool exists = !next_name(&rest, &name, &bytes);
    if (exists) return climbs_to(in.real, &out.part);
    return same_file(&in.part, &out.part) && rest_begins(in.rest, out.rest);
}
