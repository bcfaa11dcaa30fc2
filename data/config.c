// The options of data preparation.
#include "data/data.h"

#include <stddef.h>

#define AT(member) offsetof(DataConfig, member)

// clang-format off
const Field DATA_FIELDS[] = {
    {"data.cache", CFG_TEXT, AT(cache), 0, 0, "cache", NULL,
     "directory of downloads, extracted text, tokenizer and shards", "", KEY_FREE},
    {"data.sources", CFG_TEXT, AT(sources), 0, 0, "austen,kjv,pod,rst,foldoc,jargon,devil,history", NULL,
     "comma-separated names of sources, or paths of text files and directories", "", KEY_FIXED},
    {"data.mix", CFG_TEXT, AT(mix), 0, 0, "", NULL,
     "sampling weights as name=weight,...; empty samples by tokens; sources not named are not used", "", KEY_FIXED},
    {"data.holdout", CFG_TEXT, AT(holdout), 0, 0, "Persuasion", NULL,
     "comma-separated words: documents with one in the title are kept for evaluation only; if there "
     "is none, about 1 % of the text; empty keeps none", "", KEY_FIXED},
    {"data.vocab", CFG_INT, AT(vocab), 300, 1 << 20, "8192", NULL,
     "size of the tokenizer trained on the corpus", "tokens", KEY_FIXED},
    {"data.tokenizer", CFG_TEXT, AT(tokenizer), 0, 0, "", NULL,
     "tokenizer.json to use; empty trains one", "", KEY_FIXED},
    {"data.offline", CFG_BOOL, AT(offline), 0, 0, "false", NULL,
     "use the text compiled into the program, no network", "", KEY_FIXED},
    {"data.dedup", CFG_BOOL, AT(dedup), 0, 0, "true", NULL,
     "drop exact duplicates of documents", "", KEY_FIXED},
    {"data.sample_mb", CFG_I64, AT(sample_mb), 0, 1 << 30, "0", NULL,
     "a source ends with the document that passes this much text, 0 reads all", "MiB", KEY_FIXED},
    {"data.shard_tokens", CFG_I64, AT(shard_tokens), 1, 1LL << 32, "67108864", NULL,
     "tokens in one shard file at most", "tokens", KEY_FIXED},
    {"data.max_invalid", CFG_F64, AT(max_invalid), 0, 1, "0.01", NULL,
     "share of a document's bytes that may be no UTF-8; a document or file with more is left out, a source that is one file refused", "", KEY_FIXED},
    {"data.max_bad_lines", CFG_F64, AT(max_bad_lines), 0, 1, "0.01", NULL,
     "share of a source's lines of JSON that may be damaged; they are left out, a source with more is refused", "", KEY_FIXED},
};
// clang-format on
const int DATA_FIELD_COUNT = (int)(sizeof DATA_FIELDS / sizeof DATA_FIELDS[0]);
