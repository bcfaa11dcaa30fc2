// Reads tokenizer.json (Hugging Face tokenizers, version "1.0") of the byte-level BPE family:
// GPT-2, cl100k, Llama 3, Qwen 2. What would change the ids and is not implemented is refused with
// its place in the file; what only concerns offsets or special tokens around a text
// (post_processor) is passed over, because encoding adds none. The file may be hostile: nothing in
// it is trusted, and sizes come from what it holds, not from what it says.
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

static const char HINT[] =
    "only byte-level BPE is read: GPT-2, cl100k, Llama 3, Qwen 2 and what `sterna "
    "tokenizer train` writes";

// A token as the file has it, by id.
typedef struct Entry {
    const char *text;  // NULL: no such id
    size_t bytes;
    uint8_t flags;
} Entry;

typedef struct Reader {
    const Json *vocab, *added;
    Entry *entries;
    size_t capacity;  // tokens of the vocabulary and added ones: no valid id reaches it
    size_t count;     // ids in use
    Bpe *bpe;
    char *scratch;
    size_t scratch_capacity;
} Reader;

#define REFUSE(...) FAIL(E_FORMAT, HINT, __VA_ARGS__)

// --- small checks ---
typedef struct Known {
    const char *where;
    const char *const *keys;  // ends with NULL
} Known;

static Status check_key(const char *key, const Json *value, void *user) {
    (void)value;
    const Known *known = user;
    for (const char *const *k = known->keys; *k != NULL; k++) {
        if (strcmp(key, *k) == 0) return OK;
    }
    REFUSE("%s.%.40s: unknown key", known->where, key);
}

static Status check_object(const Json *v, const char *where, const char *const *keys) {
    if (!json_is_object(v)) REFUSE("%s: an object is expected", where);
    return json_each(v, check_key, &(Known){where, keys});
}

// Null, missing, or the empty string that old files have in place of null.
static Status check_none(const Json *object, const char *where, const char *key) {
    const Json *v = json_get(object, key);
    bool empty = json_is_text(v) && json_text_bytes(v) == 0;
    if (!json_is_none(v) && !empty) REFUSE("%s.%s: not supported, null is expected", where, key);
    return OK;
}

static Status check_flag(const Json *object, const char *where, const char *key, bool fallback,
                         bool want) {
    const Json *v = json_get(object, key);
    bool given = json_bool(v, fallback);
    if ((!json_is_none(v) && !json_is_bool(v)) || given != want) {
        REFUSE("%s.%s: %s is expected", where, key, want ? "true" : "false");
    }
    return OK;
}

// Values of other kinds have no type, hence are not of this one.
static bool is_type(const Json *v, const char *type) {
    return strcmp(json_text(json_get(v, "type"), ""), type) == 0;
}

// --- the split ---
// add_prefix_space would change the text; trim_offsets does not concern ids.
static Status check_byte_level(const Json *v, const char *where, bool use_regex) {
    static const char *const KEYS[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    TRY(check_object(v, where, KEYS));
    if (!is_type(v, "ByteLevel")) REFUSE("%s.type: \"ByteLevel\" is expected", where);
    TRY(check_flag(v, where, "add_prefix_space", true, false));
    return check_flag(v, where, "use_regex", true, use_regex);
}

static Status read_split(const Json *v, const char **pattern) {
    static const char WHERE[] = "pre_tokenizer.pretokenizers[0]";
    static const char *const KEYS[] = {"type", "pattern", "behavior", "invert", NULL};
    static const char *const PATTERN_KEYS[] = {"Regex", NULL};
    TRY(check_object(v, WHERE, KEYS));
    if (!is_type(v, "Split")) REFUSE("%s.type: \"Split\" is expected", WHERE);
    const Json *p = json_get(v, "pattern");
    TRY(check_object(p, "pre_tokenizer.pretokenizers[0].pattern", PATTERN_KEYS));
    if (strcmp(json_text(json_get(v, "behavior"), ""), "Isolated") != 0) {
        REFUSE("%s.behavior: \"Isolated\" is expected", WHERE);
    }
    TRY(check_flag(v, WHERE, "invert", false, false));

    const Json *regex = json_get(p, "Regex");
    *pattern = json_text(regex, "");
    if (**pattern == '\0' || strlen(*pattern) != json_text_bytes(regex)) {
        REFUSE("%s.pattern.Regex: a pattern is expected", WHERE);
    }
    Splitter *probe;  // an unusable pattern is the file's fault: say so now
    Status st = splitter_open(&probe, *pattern);
    if (st != OK) return err_context(st, "%s.pattern.Regex", WHERE);
    splitter_close(probe);
    return OK;
}

// Two forms: ByteLevel alone, with GPT-2's pattern built in, or a pattern and then ByteLevel for
// the alphabet.
static Status read_pre_tokenizer(Reader *r, const Json *v) {
    const char *pattern = PATTERN_GPT2;
    bool byte_level = !is_type(v, "Sequence");
    if (byte_level) {
        TRY(check_byte_level(v, "pre_tokenizer", true));
    } else {
        static const char *const KEYS[] = {"type", "pretokenizers", NULL};
        TRY(check_object(v, "pre_tokenizer", KEYS));
        const Json *steps = json_get(v, "pretokenizers");
        if (!json_is_array(steps) || json_count(steps) != 2) {
            REFUSE("pre_tokenizer.pretokenizers: one Split and one ByteLevel are expected");
        }
        TRY(read_split(json_at(steps, 0), &pattern));
        TRY(check_byte_level(json_at(steps, 1), "pre_tokenizer.pretokenizers[1]", false));
    }
    r->bpe = bpe__new(pattern);
    r->bpe->byte_level_split = byte_level;
    return OK;
}

// Adds special tokens around a text or trims offsets: no concern of encoder_run.
static Status check_post_processor(const Json *v, const char *where, int depth) {
    if (json_is_none(v) || is_type(v, "ByteLevel") || is_type(v, "TemplateProcessing")) return OK;
    if (!is_type(v, "Sequence") || depth > 0) REFUSE("%s.type: not supported", where);
    const Json *steps = json_get(v, "processors");
    for (size_t i = 0; i < json_count(steps); i++) {
        TRY(check_post_processor(json_at(steps, i), "post_processor.processors[]", depth + 1));
    }
    return OK;
}

// --- tokens ---
// Takes down a token. An id beyond the number of tokens proves a gap before memory is spent on it.
static Status put_entry(Reader *r, const char *where, int64_t id, Entry entry) {
    if (id < 0 || (uint64_t)id >= r->capacity) {
        REFUSE("%s: id %lld leaves a gap: the file has %zu tokens", where, (long long)id,
               r->capacity);
    }
    if (r->entries[id].text != NULL) REFUSE("%s: id %lld is taken already", where, (long long)id);
    r->entries[id] = entry;
    r->count++;
    return OK;
}

static Status read_vocab_entry(const char *key, const Json *value, void *user) {
    char where[80];
    snprintf(where, sizeof where, "model.vocab[\"%.40s\"]", key);
    if (!json_is_int(value)) REFUSE("%s: an integer is expected", where);
    return put_entry(user, where, json_int(value, -1), (Entry){key, strlen(key), 0});
}

static uint8_t added_flags(const Json *v) {
    uint8_t flags = SPECIAL;
    if (json_bool(json_get(v, "single_word"), false)) flags |= SINGLE_WORD;
    if (json_bool(json_get(v, "lstrip"), false)) flags |= LSTRIP;
    if (json_bool(json_get(v, "rstrip"), false)) flags |= RSTRIP;
    if (json_bool(json_get(v, "normalized"), false)) flags |= NORMALIZED;
    return flags;
}

static Status read_added_token(Reader *r, size_t index) {
    static const char *const KEYS[] = {"id",     "content",    "single_word", "lstrip",
                                       "rstrip", "normalized", "special",     NULL};
    char where[48];
    snprintf(where, sizeof where, "added_tokens[%zu]", index);
    const Json *v = json_at(r->added, index);
    TRY(check_object(v, where, KEYS));
    const Json *id = json_get(v, "id"), *content = json_get(v, "content");
    const char *text = json_text(content, "");
    if (!json_is_int(id) || *text == '\0' || strlen(text) != json_text_bytes(content)) {
        REFUSE("%s: an id and a content are expected", where);
    }
    // One that is not special is cut out of ordinary text before the split.
    TRY(check_flag(v, where, "special", false, true));

    Entry entry = {text, strlen(text), added_flags(v)};

    // A special may stand in the vocabulary too (GPT-2), or only here (Llama 3).
    const Json *same = json_get(r->vocab, text);
    if (json_is_none(same)) return put_entry(r, where, json_int(id, -1), entry);
    if (json_int(same, -1) != json_int(id, -2)) REFUSE("%s: has another id in model.vocab", where);
    Entry *known = &r->entries[json_int(id, -1)];
    if (known->flags != 0)
        REFUSE("%s: id %lld is taken already", where, (long long)json_int(id, -1));
    *known = entry;
    return OK;
}

static int compare_entries(const void *a, const void *b) {
    return strcmp((*(const Entry *const *)a)->text, (*(const Entry *const *)b)->text);
}

// Special tokens outside the vocabulary could still repeat each other.
static Status check_specials_differ(const Reader *r) {
    const Entry **sorted = memory__grow(NULL, r->count, sizeof *sorted);
    size_t count = 0;
    for (size_t id = 0; id < r->capacity; id++) {
        if (r->entries[id].flags != 0) sorted[count++] = &r->entries[id];
    }
    qsort(sorted, count, sizeof *sorted, compare_entries);
    Status st = OK;
    for (size_t i = 1; i < count && st == OK; i++) {
        if (strcmp(sorted[i - 1]->text, sorted[i]->text) == 0) {
            st = err_set(E_FORMAT, HINT, "added_tokens: \"%.40s\" is given twice", sorted[i]->text);
        }
    }
    free(sorted);
    return st;
}

// A buffer that lives until the next call.
static char *scratch(Reader *r, size_t bytes) {
    r->scratch = memory__reserve(r->scratch, &r->scratch_capacity, bytes + 1, 1);
    return r->scratch;
}

// Gives the tokenizer the token of the next id.
static Status add_entry(Reader *r, size_t id) {
    const Entry *entry = &r->entries[id];
    if (entry->text == NULL) REFUSE("model.vocab: no token has id %zu of %zu", id, r->count);
    if (entry->flags != 0) {
        bpe__add_token(r->bpe, entry->text, entry->bytes, entry->flags);
        return OK;
    }
    size_t count;
    char *bytes = scratch(r, entry->bytes);
    if (!byte_level__unspell(bytes, &count, entry->text, entry->bytes) || count == 0) {
        REFUSE("model.vocab[\"%.40s\"]: not written in GPT-2's byte alphabet", entry->text);
    }
    bpe__add_token(r->bpe, bytes, count, 0);
    return OK;
}

static Status read_tokens(Reader *r) {
    if (!json_is_object(r->vocab)) REFUSE("model.vocab: an object is expected");
    if (!json_is_none(r->added) && !json_is_array(r->added))
        REFUSE("added_tokens: an array is expected");
    r->capacity = json_count(r->vocab) + json_count(r->added);
    if (r->capacity >= INT32_MAX) REFUSE("model.vocab: %zu tokens", r->capacity);
    r->entries = memory__grow(NULL, r->capacity, sizeof *r->entries);
    memset(r->entries, 0, r->capacity * sizeof *r->entries);
    TRY(json_each(r->vocab, read_vocab_entry, r));
    for (size_t i = 0; i < json_count(r->added); i++) TRY(read_added_token(r, i));
    TRY(check_specials_differ(r));

    for (size_t id = 0; id < r->count; id++) TRY(add_entry(r, id));

    // With all bytes there, every text has ids, and decoding gives it back.
    for (int byte = 0; byte < 256; byte++) {
        if (r->bpe->byte_id[byte] < 0)
            REFUSE("model.vocab: no token for the byte 0x%02X", (unsigned)byte);
    }
    return OK;
}

// --- merges ---
// Splits one merge in its two spellings.
static bool merge_sides(const Json *v, const char *side[2], size_t bytes[2]) {
    if (json_is_array(v)) {
        if (json_count(v) != 2) return false;
        for (size_t i = 0; i < 2; i++) {
            side[i] = json_text(json_at(v, i), "");
            bytes[i] = json_text_bytes(json_at(v, i));
        }
        return true;
    }
    side[0] = json_text(v, "");
    const char *space = memchr(side[0], ' ', json_text_bytes(v));
    if (space == NULL) return false;
    bytes[0] = (size_t)(space - side[0]);
    side[1] = space + 1;
    bytes[1] = json_text_bytes(v) - bytes[0] - 1;
    return true;
}

static Status read_merge(Reader *r, const Json *v, size_t rank) {
    const char *side[2];
    size_t bytes[2], count[2];
    if (!merge_sides(v, side, bytes)) REFUSE("model.merges[%zu]: two tokens are expected", rank);

    // Both sides are decoded next to each other: the joined token needs no copy.
    char *joined = scratch(r, bytes[0] + bytes[1]);
    int id[3];
    char *at = joined;
    for (int i = 0; i < 2; i++) {
        bool spelled = byte_level__unspell(at, &count[i], side[i], bytes[i]);
        id[i] = spelled ? bpe__find(r->bpe, at, count[i]) : -1;
        if (id[i] < 0)
            REFUSE("model.merges[%zu]: \"%.40s\" is not in the vocabulary", rank, side[i]);
        at += count[i];
    }
    id[2] = bpe__find(r->bpe, joined, count[0] + count[1]);
    if (id[2] < 0) REFUSE("model.merges[%zu]: the joined token is not in the vocabulary", rank);
    if (!bpe__add_merge(r->bpe, id[0], id[1], id[2]))
        REFUSE("model.merges[%zu]: given twice", rank);
    return OK;
}

static Status read_model(Reader *r, const Json *model) {
    static const char *const KEYS[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges",
                                       NULL};
    TRY(check_object(model, "model", KEYS));
    // Early files have no type. unk_token and fuse_unk have no effect: every byte has a token.
    if (json_get(model, "type") != NULL && !is_type(model, "BPE"))
        REFUSE("model.type: \"BPE\" is expected");
    TRY(check_none(model, "model", "dropout"));
    TRY(check_none(model, "model", "continuing_subword_prefix"));
    TRY(check_none(model, "model", "end_of_word_suffix"));
    TRY(check_flag(model, "model", "byte_fallback", false, false));
    const Json *ignore = json_get(model, "ignore_merges");
    if (!json_is_none(ignore) && !json_is_bool(ignore))
        REFUSE("model.ignore_merges: true or false is expected");
    r->bpe->ignore_merges = json_bool(ignore, false);

    r->vocab = json_get(model, "vocab");
    TRY(read_tokens(r));
    const Json *merges = json_get(model, "merges");
    if (!json_is_array(merges)) REFUSE("model.merges: an array is expected");
    for (size_t i = 0; i < json_count(merges); i++) TRY(read_merge(r, json_at(merges, i), i));
    return OK;
}

// The order matters: the split makes the tokenizer that the model fills.
static Status read_root(Reader *r, const Json *root) {
    static const char *const KEYS[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    TRY(check_object(root, "$", KEYS));
    if (strcmp(json_text(json_get(root, "version"), ""), "1.0") != 0)
        REFUSE("version: \"1.0\" is expected");
    TRY(check_none(root, "$", "truncation"));
    TRY(check_none(root, "$", "padding"));
    TRY(check_none(root, "$", "normalizer"));
    if (!is_type(json_get(root, "decoder"), "ByteLevel"))
        REFUSE("decoder.type: \"ByteLevel\" is expected");
    TRY(check_post_processor(json_get(root, "post_processor"), "post_processor", 0));
    TRY(read_pre_tokenizer(r, json_get(root, "pre_tokenizer")));
    r->added = json_get(root, "added_tokens");
    return read_model(r, json_get(root, "model"));
}

Status bpe_read_hf(Bpe **bpe, const char *path) {
    *bpe = NULL;
    Json *root;
    TRY(json_open_file(&root, path));
    Reader r = {0};
    Status st = read_root(&r, root);
    if (st == OK) {
        bpe__finish(r.bpe);
        *bpe = r.bpe;
    } else {
        bpe_close(r.bpe);
        err_context(st, "%s", path);
    }
    free(r.entries);
    free(r.scratch);
    json_close(root);
    return st;
}
