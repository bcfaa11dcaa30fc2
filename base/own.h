// What is ours. A directory whose contents the program replaces or removes carries a mark: an empty
// hidden file, made before anything else in it and removed last, so that whatever a killed process
// leaves is known again. A directory without it is somebody else's, unless a version of the program
// from before the marks is known to have made it. What is not ours is refused with E_USAGE, named,
// and left as it is. Nothing here communicates.
#pragma once

#include "base/status.h"

// A kind of directory.
typedef struct OwnKind {
    const char *mark;    // ".sterna-corpus"
    const char *what;    // "corpus", for messages
    const char *remedy;  // what the user can do, for hints
    bool whole;   // all of it is ours, and it is replaced as a whole; else it is shared with files
                  // of other names
    bool nested;  // has directories in it
    // Whether the program gives this name, a path below the directory. Names of drafts are asked
    // for without their suffix.
    bool (*names)(const char *name, const void *user);
    bool (*knows)(const char *path,
                  const void *user);  // made by an earlier version; NULL: none did
    const void *user;
} OwnKind;

// Marked, or known. Also true when that cannot be found out: what is done next then fails for the
// same reason.
bool own_is(const char *path, const OwnKind *kind);
// E_USAGE unless own_take (of a whole kind: own_remove, too) would do: nothing is there, or an
// empty directory, or it is ours. A whole kind: no link, and nothing in it that has not a name of
// ours. A shared kind that is not ours: nothing in it that has one.
Status own_check(const char *path, const OwnKind *kind) CHECKED;
// Makes the directory with its parents, or takes one that own_check accepts, and marks it.
Status own_take(const char *path, const OwnKind *kind) CHECKED;
// Marks a directory that is known to be ours by other things than its contents.
Status own_mark(const char *path, const OwnKind *kind) CHECKED;
// Whole kinds. A missing directory is fine.
Status own_remove(const char *path, const OwnKind *kind) CHECKED;
// `from`, which is ours, becomes `to`; what is there is removed if it is ours. The parent is not
// synced.
Status own_replace(const char *from, const char *to, const OwnKind *kind) CHECKED;
