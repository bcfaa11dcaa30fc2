// Files: whole-file reads, atomic writes (temporary name, fsync, rename), mappings, checksums,
// paths.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/status.h"

enum { PATH_BYTES = 1024 };

typedef struct Mapping {
    const char *data;
    size_t bytes;
} Mapping;

typedef struct Hash128 {
    uint64_t low, high;
} Hash128;

// dst = "dir/name"; ASSERTs on overflow beyond PATH_BYTES. dst must not alias.
void path_join(char dst[PATH_BYTES], const char *dir, const char *name);
bool path_exists(const char *path);
bool path_is_dir(const char *path);
// OK: there. E_MISSING: there is no such name. E_IO: that cannot be said, as of a link that leads
// nowhere, a directory that may not be searched or a disk that fails. Ask this, not path_exists,
// where "not there" has consequences.
Status path_look(const char *path) CHECKED;
Status dir_make(const char *path) CHECKED;   // mkdir -p
Status dir_sync(const char *path) CHECKED;   // fsync of the directory
Status dir_probe(const char *path) CHECKED;  // can files be written here? Writes one and removes it
// Calls visit(name, user) for each entry but . and .., sorted by name; stops at the first failure.
Status dir_each(const char *path, Status (*visit)(const char *name, void *user),
                void *user) CHECKED;

// *text is NUL-terminated, malloc'ed, owned by the caller; *bytes (may be NULL) excludes the NUL.
Status file_read(const char *path, char **text, size_t *bytes) CHECKED;
// By way of a Draft: the old file or the whole new one, never a part.
Status file_write(const char *path, const void *data, size_t bytes) CHECKED;
Status file_remove(const char *path) CHECKED;  // a single file; a missing one is fine
// Whole lines at the end of a file, which is made if need be. A torn last line is ended first, so
// that nothing is glued to it; on failure the file is as it was, as far as the disk allows.
Status file_append_lines(const char *path, const void *lines, size_t bytes) CHECKED;
Status file_size(const char *path, uint64_t *bytes) CHECKED;
Status file_map(const char *path, Mapping *m) CHECKED;  // read-only, shared
void file_unmap(Mapping *m);
Status write_all(int fd, const void *data, size_t bytes,
                 const char *path) CHECKED;  // whole, retries EINTR

// A file on its way: written beside its place under a name that only this program gives (the
// place's and DRAFT_SUFFIX), which is made anew, so that no file of anybody else is touched; then
// renamed. A symbolic link stays, and what it points to is replaced. Devices and pipes are written
// directly.
#define DRAFT_SUFFIX ".sterna-tmp"
typedef struct Draft {
    int fd;                 // to write to
    char path[PATH_BYTES];  // for messages
    char target[PATH_BYTES];
    dev_t device;  // of what was made
    ino_t inode;
    bool plain;  // path is to be renamed
} Draft;
// On failure, and after a commit that failed, the draft is to be dropped.
Status draft_open(Draft *d, const char *path) CHECKED;
Status
draft_sync(Draft *d) CHECKED;  // fsync, close: for several that are to take their places together
Status draft_commit(Draft *d) CHECKED;  // the same if need be, rename
void draft_drop(Draft *d);              // removes what was not committed; accepts a committed one

// "cannot <verb> <path>: <reason>" with a hint that fits the error number. E_IO, E_NOMEM.
Status file_failed(const char *verb, const char *path, int error) CHECKED;

uint64_t hash64(const void *data, size_t bytes);  // XXH3-64
Hash128 hash128(const void *data, size_t bytes);  // XXH3-128
void hash128_hex(char out[33], Hash128 h);
