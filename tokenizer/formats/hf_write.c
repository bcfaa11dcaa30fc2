// Writes tokenizer.json, the format of Hugging Face's tokenizers library (version "1.0"), always in
// the same order and spelling: its hash is the tokenizer's identity. Merges are written "left
// right", which every version of the library reads; byte-level tokens have no spaces.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

// Special tokens stand here and in the vocabulary, as the library's own trainer does it.
static void write_added(const Bpe *bpe, JsonOut *w) {
    jsonout_open_array(w, "added_tokens");
    for (int id = 0; id < bpe->vocab; id++) {
        uint8_t flags = bpe->flags[id];
        if (!(flags & SPECIAL)) continue;
        jsonout_open_object(w, NULL);
        jsonout_int(w, "id", id);
        jsonout_text_n(w, "content", bpe->text + bpe->start[id], bpe__token_bytes(bpe, id));
        jsonout_bool(w, "single_word", (flags & SINGLE_WORD) != 0);
        jsonout_bool(w, "lstrip", (flags & LSTRIP) != 0);
        jsonout_bool(w, "rstrip", (flags & RSTRIP) != 0);
        jsonout_bool(w, "normalized", (flags & NORMALIZED) != 0);
        jsonout_bool(w, "special", true);
        jsonout_close_object(w);
    }
    jsonout_close_array(w);
}

static void write_normalizer(const Bpe *bpe, JsonOut *w) {
    if (!bpe->nfc) {
        jsonout_none(w, "normalizer");
        return;
    }
    jsonout_open_object(w, "normalizer");
    jsonout_text(w, "type", "NFC");
    jsonout_close_object(w);
}

// Serves as the second step of the split, as GPT-2's whole split, and as the decoder.
static void write_byte_level(JsonOut *w, const char *key, bool use_regex) {
    jsonout_open_object(w, key);
    jsonout_text(w, "type", "ByteLevel");
    jsonout_bool(w, "add_prefix_space", false);
    jsonout_bool(w, "trim_offsets", true);
    jsonout_bool(w, "use_regex", use_regex);
    jsonout_close_object(w);
}

// Back in the form it was read in.
static void write_split(const Bpe *bpe, JsonOut *w) {
    if (bpe->byte_level_split) {
        write_byte_level(w, "pre_tokenizer", true);
        return;
    }
    jsonout_open_object(w, "pre_tokenizer");
    jsonout_text(w, "type", "Sequence");
    jsonout_open_array(w, "pretokenizers");
    jsonout_open_object(w, NULL);
    jsonout_text(w, "type", "Split");
    jsonout_open_object(w, "pattern");
    jsonout_text(w, "Regex", bpe->pattern);
    jsonout_close_object(w);
    jsonout_text(w, "behavior", "Isolated");
    jsonout_bool(w, "invert", false);
    jsonout_close_object(w);
    write_byte_level(w, NULL, false);
    jsonout_close_array(w);
    jsonout_close_object(w);
}

// Spells a token as a NUL-terminated string; specials stand for themselves.
static size_t spell(const Bpe *bpe, int id, char *out) {
    const char *bytes = bpe->text + bpe->start[id];
    size_t count = bpe__token_bytes(bpe, id);
    if (!(bpe->flags[id] & SPECIAL)) {
        count = byte_level__spell(out, bytes, count);
    } else {
        memcpy(out, bytes, count);
    }
    out[count] = '\0';
    return count;
}

// unk_token stays null: with all bytes in the vocabulary nothing is unknown.
static void write_model(const Bpe *bpe, JsonOut *w) {
    size_t longest = 0;
    for (int id = 0; id < bpe->vocab; id++) {
        size_t bytes = bpe__token_bytes(bpe, id);
        if (bytes > longest) longest = bytes;
    }
    char *text = memory__grow(NULL, longest * 4 + 2, 1);  // two tokens, two bytes a byte, a space
    jsonout_open_object(w, "model");
    jsonout_text(w, "type", "BPE");
    jsonout_none(w, "dropout");
    jsonout_none(w, "unk_token");
    jsonout_none(w, "continuing_subword_prefix");
    jsonout_none(w, "end_of_word_suffix");
    jsonout_bool(w, "fuse_unk", false);
    jsonout_bool(w, "byte_fallback", false);
    jsonout_bool(w, "ignore_merges", bpe->ignore_merges);
    jsonout_open_object(w, "vocab");
    for (int id = 0; id < bpe->vocab; id++) {
        spell(bpe, id, text);
        jsonout_int(w, text, id);
    }
    jsonout_close_object(w);
    jsonout_open_array(w, "merges");
    for (int rank = 0; rank < bpe->merge_count; rank++) {
        size_t left = spell(bpe, bpe->merges[rank].left, text);
        text[left] = ' ';
        spell(bpe, bpe->merges[rank].right, text + left + 1);
        jsonout_text(w, NULL, text);
    }
    jsonout_close_array(w);
    jsonout_close_object(w);
    free(text);
}

void bpe__write_json(const Bpe *bpe, JsonOut *w) {
    jsonout_open_object(w, NULL);
    jsonout_text(w, "version", "1.0");
    jsonout_none(w, "truncation");
    jsonout_none(w, "padding");
    write_added(bpe, w);
    write_normalizer(bpe, w);
    write_split(bpe, w);
    jsonout_none(w, "post_processor");
    write_byte_level(w, "decoder", true);
    write_model(bpe, w);
    jsonout_close_object(w);
}

Status bpe_write_hf(const Bpe *bpe, const char *path) {
    JsonOut out = {.indent = 2};
    bpe__write_json(bpe, &out);
    Status st = file_write(path, out.text, out.bytes);
    jsonout_free(&out);
    return st;
}
