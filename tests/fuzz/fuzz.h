// Fuzz targets: one function for each parser, which takes any bytes, calls the parser and asserts
// what must hold of its result. The same functions run under libFuzzer (libfuzzer.c, run.sh) and
// over a list of files (replay.c, ctest).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"

typedef void FuzzRun(const uint8_t *data, size_t bytes);
// Hands inputs to fuzz_seed that a writer of the program makes, so that they follow every change of
// a format.
typedef void FuzzSeeds(void);

typedef struct FuzzTarget {
    const char *name;
    FuzzRun *run;
    FuzzSeeds *seeds;  // NULL: none
    // More of them: glob patterns below the source tree, separated by blanks; "A+B" are the parts
    // of one input.
    const char *files;
} FuzzTarget;

// Rows of all targets_*.c, each list ends with a NULL name.
extern const FuzzTarget BASE_TARGETS[], TOKENIZER_TARGETS[], TEXT_TARGETS[], SOURCE_TARGETS[],
    MODEL_TARGETS[];
const FuzzTarget *fuzz_find(const char *name);  // NULL: unknown
void fuzz_each(void (*visit)(const FuzzTarget *t, void *user), void *user);

// One input: errors are cleared and the files below fuzz_dir are removed afterwards.
void fuzz_input(const FuzzTarget *t, const uint8_t *data, size_t bytes);
// Calls `sink` for each seed of the target.
typedef void FuzzSink(const FuzzTarget *t, const uint8_t *data, size_t bytes, void *user);
void fuzz_seeds(const FuzzTarget *t, FuzzSink *sink, void *user);
void fuzz_seed(const void *data, size_t bytes);  // for FuzzSeeds
// "a\n%%%%\nb" for the parts of an input.
void fuzz_seed_parts(const char *const *parts, const size_t *bytes, int count);
void fuzz_seed_texts(const char *const *texts);  // ends with NULL: a seed each

// For the targets. An empty directory of this process, in memory where there is such a place.
const char *fuzz_dir(void);
// Writes DIR/name (parents are made) and returns its path, good until the next but three calls.
const char *fuzz_file(const char *name, const void *data, size_t bytes);
const char *fuzz_path(const char *name);  // the same without writing
// A part of an input with several of them.
typedef struct FuzzPart {
    const char *at;
    size_t bytes;
} FuzzPart;
// The next part, up to the line %%%%; empty when there is none left.
FuzzPart fuzz_part(FuzzPart *rest);
char *fuzz_text(FuzzPart part);  // a copy that ends with NUL, malloc'ed
