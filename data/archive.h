// Debian packages: an ar archive with a member data.tar, compressed by gzip, xz or zstd. Read as a
// stream; only wanted files are kept, no link is followed, no path leaves the destination, every
// size is limited.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ArchiveLimits {
    uint64_t total_bytes;  // of the unpacked tar, wanted or not
    uint64_t file_bytes;   // of one wanted file
    uint64_t files;        // number of wanted files
} ArchiveLimits;
typedef struct ArchiveCount {
    uint64_t files, bytes;  // unpacked
} ArchiveCount;
extern const ArchiveLimits ARCHIVE_LIMITS;  // far above any text package, far below a full disk

// Unpacks regular files of `deb` whose path (without a leading "./") matches `wanted` below `dir`:
// glob patterns separated by spaces, '*' also matches '/', a pattern that starts with '!' excludes.
// count may be NULL. E_FORMAT: not a package, truncated, corrupt, unsafe path, beyond a limit.
// E_IO: the disk.
Status deb_unpack(const char *deb, const char *dir, const char *wanted, const ArchiveLimits *limits,
                  ArchiveCount *count) CHECKED;
bool path_wanted(const char *path, const char *wanted);
// True when `path` is relative, not empty, has no ".." part, no control characters.
bool path_safe(const char *path);
