// A small corpus directory made without sources, tokenizer or MPI, whose tokens tell where they
// stand: token i of source k is FIRST + k * STRIDE + i, but for the last of each document.
#pragma once

#include "data/internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MADE_VOCAB = 1 << 20, MADE_EOD = 2, MADE_FIRST = 16, MADE_STRIDE = 100000 };

typedef struct MadeSource {
    const char *name;
    int lengths[12];  // tokens of each document, 0 ends the list
    int per_shard;    // documents
} MadeSource;

static inline int made_total(const MadeSource *s) {
    int total = 0;
    for (int d = 0; d < 12 && s->lengths[d] > 0; d++) total += s->lengths[d];
    return total;
}

// Documents [begin, end) of the source as a shard; fills the index's row.
static inline void made_shard(const char *path, IndexShard *row, const MadeSource *s, int source,
                              int begin, int end, int position) {
    int32_t *tokens = malloc(MADE_STRIDE * sizeof *tokens);
    uint64_t ends[12], ids[12], n = 0;
    for (int d = begin; d < end; d++) {
        for (int i = 0; i < s->lengths[d]; i++)
            tokens[n++] = MADE_FIRST + source * MADE_STRIDE + position++;
        tokens[n - 1] = MADE_EOD;
        ends[d - begin] = n;
        ids[d - begin] = (uint64_t)source << 52 | (uint64_t)d;
    }
    ShardInfo info = {.tokens = n,
                      .docs = (uint64_t)(end - begin),
                      .vocab = MADE_VOCAB,
                      .eod = MADE_EOD,
                      .source = (uint32_t)source,
                      .number = (uint32_t)row->number,
                      .tokenizer = {11, 22}};
    cr_assert_eq(shard_write(path, &info, tokens, ends, ids), OK, "%s", err_message());
    free(tokens);
    Shard *shard;
    cr_assert_eq(shard_open(&shard, path, true), OK, "%s", err_message());
    *row = (IndexShard){.tokens = n,
                        .docs = (uint64_t)(end - begin),
                        .hash = shard__hash(shard),
                        .source = source,
                        .number = row->number};
    shard_close(shard);
}

static inline uint64_t made_text(const char *dir, const char *name, const char *text) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    cr_assert_eq(file_write(path, text, strlen(text)), OK, "%s", err_message());
    return hash64(text, strlen(text));
}

// Writes everything below a fresh directory, whose name goes to `dir`.
static inline void made_corpus(char dir[PATH_BYTES], const MadeSource *sources, int count) {
    snprintf(dir, PATH_BYTES, "/tmp/sterna_made_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    Index ix = {.vocab = MADE_VOCAB, .eod = MADE_EOD, .tokenizer = {11, 22}, .identity = {1, 2}};
    ix.shards = calloc(128, sizeof *ix.shards);
    ix.report.count = count;
    for (int k = 0; k < count; k++) {
        const MadeSource *s = &sources[k];
        snprintf(ix.report.source[k].name, sizeof ix.report.source[k].name, "%s", s->name);
        int position = 0, number = 0;
        for (int d = 0; d < 12 && s->lengths[d] > 0;) {
            int end = d;
            while (end < 12 && s->lengths[end] > 0 && end - d < s->per_shard) end++;
            IndexShard *row = &ix.shards[ix.shard_count++];
            char path[PATH_BYTES];
            row->number = number++;
            index__shard_path(path, dir, k, row->number);
            made_shard(path, row, s, k, d, end, position);
            position += (int)row->tokens;
            ix.report.source[k].tokens += (int64_t)row->tokens;
            d = end;
        }
    }
    char path[PATH_BYTES];
    MadeSource held = {.name = "held", .lengths = {5, 3}, .per_shard = 2};
    path_join(path, dir, HOLDOUT_SHARD);
    made_shard(path, &ix.holdout, &held, count, 0, 2, 0);
    ix.report.holdout_tokens = 8;
    ix.report.holdout_bytes = 20;
    ix.holdout_file = made_text(dir, HOLDOUT_TEXT, "held\fout");
    ix.tokenizer_file = made_text(dir, TOKENIZER_FILE, "{}");
    ix.corpus = index__corpus_hash(&ix);
    cr_assert_eq(index__write(&ix, dir), OK, "%s", err_message());
    index__free(&ix);
}
