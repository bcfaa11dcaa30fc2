// The corpus carries its tokenizer, also one that was given: that one byte for byte, for its file
// may say more than this program uses.
#include "data/internal.h"

#include <stdlib.h>

// What was copied is the tokenizer in hand, unless somebody has just written another one.
static Status check_copy(const char *path, const Bpe *bpe, const char *given) {
    Bpe *copy;
    uint64_t high[2];
    TRY(bpe_read_hf(&copy, path));
    bool same = bpe_hash(copy, &high[0]) == bpe_hash(bpe, &high[1]) && high[0] == high[1];
    bpe_close(copy);
    if (same) return OK;
    FAIL(E_IO, "start again when it is written", "%s: changed while it was read", given);
}

Status tokenizer__write(uint64_t *file_hash, const char *dir, const Bpe *bpe, const char *given) {
    char path[PATH_BYTES], *text = NULL;
    size_t bytes;
    path_join(path, dir, TOKENIZER_FILE);
    if (given[0] == '\0') {
        TRY(bpe_write_hf(bpe, path));
        TRY(file_read(path, &text, &bytes));
    } else {
        TRY(file_read(given, &text, &bytes));
        Status st = file_write(path, text, bytes);
        if (st == OK) st = check_copy(path, bpe, given);
        if (st != OK) {
            free(text);
            return st;
        }
    }
    *file_hash = hash64(text, bytes);
    free(text);
    return OK;
}
