// Where training text comes from: a table of named sources, each a package of the machine's own
// Debian archive with an extractor that turns its files into plain-text documents; or any text
// file, .jsonl file or directory by path. Nothing here communicates: one rank of a node calls
// source_fetch, then every rank may call source_extract.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/data.h"

// A named source. `wanted` and `read` belong to the extractor; everything else is for people and
// defaults.
typedef struct Source {
    const char *name;         // as written in data.sources: "austen"
    const char *description;  // one line
    const char *package;      // Debian package that holds the text
    const char *licence;      // kind of licence of the text, for reports
    const char *wanted;  // files of the package: glob patterns separated by spaces, '!' excludes
    // Reads the unpacked files below `dir`. Contract as source_extract.
    Status (*read)(DocList *docs, const char *dir, uint32_t source_number, int64_t limit_bytes);
} Source;

// The table in its fixed order; *count rows.
const Source *source_table(int *count);
// NULL when no row has this name (a path, or a typing error: source_is_path tells which).
const Source *source_find(const char *name);
// The row of a name; E_USAGE lists the names there are.
Status source_require(const Source **source, const char *name) CHECKED;
// True when `name` means files of the user: it contains '/' or exists.
bool source_is_path(const char *name);

// Downloads and unpacks one source below cache_dir/packages and cache_dir/text unless that is done
// already (a mark with the package's name, version and hash says so). Nothing to do for paths.
// E_NETWORK: the archive cannot be reached; E_IO: the disk. Not collective: one rank of a node.
Status source_fetch(const char *name, const char *cache_dir) CHECKED;

// E_USAGE when source_fetch would replace something that is not ours. OK for paths.
Status source_check(const char *name, const char *cache_dir) CHECKED;

// Appends the documents of one source, not yet normalised, in an order and with ids (source_number
// 12 bits | file 20 | record 32) that depend on the content alone. limit_bytes > 0 stops after the
// document that passes it. offline: reads the sample compiled into the program; sources without one
// (sample_has) add nothing. E_USAGE: unknown name. E_IO: not fetched, or a path that cannot be
// read. E_FORMAT: damaged. Not collective.
Status source_extract(const char *name, const char *cache_dir, bool offline, int64_t limit_bytes,
                      uint32_t source_number, DocList *docs) CHECKED;
// Whether the compiled-in sample has text of this source ("austen", "kjv", "devil").
bool sample_has(const char *name);

// The user's own text: a file, a file of JSON records, or a directory. As source_extract; adds to
// *cleaned what it left out.
typedef struct TextLimits {
    double invalid, bad_lines;  // shares, as data.max_invalid and data.max_bad_lines
} TextLimits;
extern const TextLimits TEXT_LIMITS;  // where nobody chose
Status local_read(DocList *docs, const char *path, uint32_t source, int64_t limit_bytes,
                  const TextLimits *limits, Cleaning *cleaned) CHECKED;

// --- normalise.c ---
typedef struct NormaliseCounts {
    int64_t docs_in, docs_empty, docs_invalid;  // dropped: nothing left; too much invalid UTF-8
    int64_t invalid_bytes, removed_chars, spaces, blank_lines;  // edits
} NormaliseCounts;
// One text: LF line ends, NFC, no control, zero-width, bidi, private-use or noncharacter code
// points, plain spaces, no trailing blanks, at most 2 blank lines in a row, none at either end;
// invalid UTF-8 becomes U+FFFD. Idempotent. Returns malloc'ed NUL-terminated text, its length in
// *out_bytes; counts may be NULL. NULL: out of memory.
char *normalise_text(const char *text, size_t bytes, size_t *out_bytes, NormaliseCounts *counts);
// The same for a text that goes on: it may end in blanks, and in as many line ends as may stand
// inside of a document. A beginning of a normalised document stays as it is.
char *normalise_beginning(const char *text, size_t bytes, size_t *out_bytes);
// In place over a list; drops documents that are empty or more than a share of max_invalid of whose
// bytes are invalid (ids of the others do not change).
Status docs_normalise(DocList *docs, double max_invalid, NormaliseCounts *counts) CHECKED;
void cleaning_add(Cleaning *c,
                  const NormaliseCounts *n);  // what normalising left out and took away
