// The targets under libFuzzer. The program's own name says which one: run.sh makes a link for each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed);

static const FuzzTarget *target;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    const char *slash = strrchr((*argv)[0], '/');
    target = fuzz_find(slash == NULL ? (*argv)[0] : slash + 1);
    if (target != NULL) return 0;
    fprintf(stderr, "%s: no target has this name; tests/fuzz/run.sh starts one\n", (*argv)[0]);
    exit(64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input(target, data, bytes);
    return 0;
}

// Time that explodes needs the same few bytes thousands of times, which libFuzzer's own mutations
// do not come to: every 64th input is filled up with a piece of itself.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed) {
    if (bytes == 0 || seed % 64 != 0) return LLVMFuzzerMutate(data, bytes, capacity);
    size_t begin = seed / 64 % bytes, piece = 1 + seed / 4096 % 16, keep = begin + piece;
    if (keep > bytes) return LLVMFuzzerMutate(data, bytes, capacity);
    for (size_t i = keep; i < capacity; i++) data[i] = data[i - piece];
    return capacity;
}
