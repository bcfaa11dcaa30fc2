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
    JsonAt vocab, added;
    Entry *entries;
    size_t capacity;  // tokens of the vocabulary and added ones: no valid id reaches it
    size_t count;     // ids in use
    Bpe *bpe;
    char *scratch;
    size_t scratch_capacity;
} Reader;

// --- small checks ---
static Status check_key(const JsonAt *member, void *user) {
    for (const char *const *k = user; *k != NULL; k++) {
        if (strcmp(member->key, *k) == 0) return OK;
    }
    return json_refuse(member, "no such key");
}

// keys end with NULL.
static Status check_keys(const JsonAt *v, const char *const *keys) {
    return json_each(v, check_key, (void *)(uintptr_t)keys);
}

// Null, missing, or the empty string that old files have in place of null.
static Status check_none(const JsonAt *object, const char *key) {
    JsonAt v;
    const char *text = NULL;
    TRY(json_member(&v, object, key));
    if (json_kind(&v) == J_NONE) return OK;
    bool empty = json_kind(&v) == J_TEXT && json_text(&text, &v) == OK && text[0] == '\0';
    return empty ? OK : json_refuse(&v, "null");
}

// Null and absence stand for `fallback`.
static Status check_flag(const JsonAt *object, const char *key, bool fallback, bool want) {
    JsonAt v;
    bool given = fallback;
    TRY(json_member(&v, object, key));
    TRY(json_opt_bool(&given, object, key));
    return given == want ? OK : json_refuse(&v, want ? "true" : "false");
}

static Status check_text(const JsonAt *object, const char *key, const char *want) {
    JsonAt v;
    const char *text;
    TRY(json_member(&v, object, key));
    TRY(json_text(&text, &v));
    return strcmp(text, want) == 0 ? OK : json_refuse(&v, "\"%s\"", want);
}

static Status refuse_type(const JsonAt *step, const char *expected) {
    JsonAt type;
    TRY(json_member(&type, step, "type"));
    return json_refuse(&type, "%s", expected);
}

// --- the normalizer ---
// NFC alone, as Qwen 2 has it, by itself or in a sequence. An empty sequence does nothing.
static Status read_normalizer(bool *nfc, const JsonAt *v, bool inside) {
    static const char *const KEYS[] = {"type", NULL};
    static const char *const SEQUENCE_KEYS[] = {"type", "normalizers", NULL};
    const char *type;
    JsonAt steps, step;
    TRY(json_need_text(&type, v, "type"));
    if (strcmp(type, "NFC") == 0) {
        *nfc = true;
        return check_keys(v, KEYS);
    }
    if (strcmp(type, "Sequence") != 0 || inside) return refuse_type(v, "\"NFC\"");
    TRY(check_keys(v, SEQUENCE_KEYS));
    TRY(json_need_list(&steps, v, "normalizers"));
    for (size_t i = 0; i < json_count(&steps); i++) {
        TRY(json_item(&step, &steps, i));
        TRY(read_normalizer(nfc, &step, true));  // twice is as good as once
    }
    return OK;
}

// --- the split ---
// add_prefix_space would change the text; trim_offsets does not concern ids.
static Status check_byte_level(const JsonAt *v, bool use_regex) {
    static const char *const KEYS[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    bool trim;
    TRY(check_keys(v, KEYS));
    TRY(check_text(v, "type", "ByteLevel"));
    TRY(json_opt_bool(&trim, v, "trim_offsets"));
    TRY(check_flag(v, "add_prefix_space", true, false));
    return check_flag(v, "use_regex", true, use_regex);
}

static Status read_split(const JsonAt *v, const char **pattern) {
    static const char *const KEYS[] = {"type", "pattern", "behavior", "invert", NULL};
    static const char *const PATTERN_KEYS[] = {"Regex", NULL};
    JsonAt p, regex;
    TRY(check_keys(v, KEYS));
    TRY(check_text(v, "type", "Split"));
    TRY(json_need_object(&p, v, "pattern"));
    TRY(check_keys(&p, PATTERN_KEYS));
    TRY(check_text(v, "behavior", "Isolated"));
    TRY(check_flag(v, "invert", false, false));

    TRY(json_member(&regex, &p, "Regex"));
    TRY(json_text(pattern, &regex));
    if (**pattern == '\0') return json_refuse(&regex, "a pattern");
    Splitter *probe;  // an unusable pattern is the file's fault: say so now
    Status st = splitter_open(&probe, *pattern);
    if (st != OK)
        return err_context(st, "%s: pre_tokenizer.pretokenizers[0].pattern.Regex", v->file);
    splitter_close(probe);
    return OK;
}

// Two forms: ByteLevel alone, with GPT-2's pattern built in, or a pattern and then ByteLevel for
// the alphabet.
static Status read_pre_tokenizer(Reader *r, const JsonAt *v) {
    static const char *const KEYS[] = {"type", "pretokenizers", NULL};
    const char *pattern = PATTERN_GPT2, *type;
    TRY(json_need_text(&type, v, "type"));
    bool byte_level = strcmp(type, "Sequence") != 0;
    if (byte_level) {
        TRY(check_byte_level(v, true));
    } else {
        JsonAt steps, step;
        TRY(check_keys(v, KEYS));
        TRY(json_need_list(&steps, v, "pretokenizers"));
        if (json_count(&steps) != 2) return json_refuse(&steps, "one Split and one ByteLevel");
        TRY(json_item(&step, &steps, 0));
        TRY(read_split(&step, &pattern));
        TRY(json_item(&step, &steps, 1));
        TRY(check_byte_level(&step, false));
    }
    r->bpe = bpe__new(pattern);
    r->bpe->byte_level_split = byte_level;
    return OK;
}

// Adds special tokens around a text or trims offsets: no concern of encoder_run.
static Status read_post_processor(bool *adds, const JsonAt *v, bool inside) {
    const char *type;
    JsonAt steps, step;
    TRY(json_need_text(&type, v, "type"));
    if (strcmp(type, "TemplateProcessing") == 0) *adds = true;
    if (strcmp(type, "TemplateProcessing") == 0 || strcmp(type, "ByteLevel") == 0) return OK;
    if (strcmp(type, "Sequence") != 0 || inside)
        return refuse_type(v, "\"ByteLevel\" or \"TemplateProcessing\"");
    TRY(json_need_list(&steps, v, "processors"));
    for (size_t i = 0; i < json_count(&steps); i++) {
        TRY(json_item(&step, &steps, i));
        TRY(read_post_processor(adds, &step, true));
    }
    return OK;
}

// --- tokens ---
// Takes down a token. An id beyond the number of tokens proves a gap before memory is spent on it.
static Status put_entry(Reader *r, const JsonAt *where, int64_t id, Entry entry) {
    if (id < 0 || (uint64_t)id >= r->capacity)
        return json_refuse(where, "an id below %zu, the number of tokens in the file,",
                           r->capacity);
    if (r->entries[id].text != NULL) return json_refuse(where, "an id that no other token has");
    r->entries[id] = entry;
    r->count++;
    return OK;
}

static Status read_vocab_entry(const JsonAt *member, void *user) {
    int64_t id;
    TRY(json_int(&id, member));
    return put_entry(user, member, id, (Entry){member->key, strlen(member->key), 0});
}

static Status read_flags(uint8_t *flags, const JsonAt *v) {
    static const struct {
        const char *key;
        uint8_t flag;
    } FLAGS[] = {{"single_word", SINGLE_WORD},
                 {"lstrip", LSTRIP},
                 {"rstrip", RSTRIP},
                 {"normalized", NORMALIZED}};
    *flags = SPECIAL;
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++) {
        bool set = false;
        TRY(json_opt_bool(&set, v, FLAGS[i].key));
        if (set) *flags |= FLAGS[i].flag;
    }
    return OK;
}

static Status read_added_token(Reader *r, const JsonAt *v) {
    static const char *const KEYS[] = {"id",     "content",    "single_word", "lstrip",
                                       "rstrip", "normalized", "special",     NULL};
    JsonAt id_at, content, same;
    int64_t id, known;
    Entry entry = {0};
    TRY(check_keys(v, KEYS));
    TRY(json_member(&id_at, v, "id"));
    TRY(json_int(&id, &id_at));
    TRY(json_member(&content, v, "content"));
    TRY(json_text(&entry.text, &content));
    entry.bytes = strlen(entry.text);
    if (entry.bytes == 0) return json_refuse(&content, "a text that is not empty");
    // One that is not special is cut out of ordinary text before the split.
    TRY(check_flag(v, "special", false, true));
    TRY(read_flags(&entry.flags, v));

    // A special may stand in the vocabulary too (GPT-2), or only here (Llama 3).
    TRY(json_member(&same, &r->vocab, entry.text));
    if (same.value == NULL) return put_entry(r, &id_at, id, entry);
    TRY(json_int(&known, &same));
    if (known != id) return json_refuse(&id_at, "%lld, as model.vocab says,", (long long)known);
    if (r->entries[id].flags != 0) return json_refuse(&id_at, "an id that no other token has");
    r->entries[id] = entry;
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
            st = err_set(E_FORMAT, HINT, "%s: added_tokens: \"%.40s\" is given twice",
                         r->vocab.file, sorted[i]->text);
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
    if (entry->text == NULL)
        return json_refuse(&r->vocab, "a token with id %zu of %zu", id, r->count);
    if (entry->flags != 0) {
        bpe__add_token(r->bpe, entry->text, entry->bytes, entry->flags);
        return OK;
    }
    size_t count;
    char *bytes = scratch(r, entry->bytes);
    if (!byte_level__unspell(bytes, &count, entry->text, entry->bytes) || count == 0) {
        JsonAt token;
        TRY(json_member(&token, &r->vocab, entry->text));
        return json_refuse(&token, "a token in GPT-2's byte alphabet");
    }
    bpe__add_token(r->bpe, bytes, count, 0);
    return OK;
}

static Status read_tokens(Reader *r) {
    JsonAt v;
    r->capacity = json_count(&r->vocab) + json_count(&r->added);
    if (r->capacity >= INT32_MAX) return json_refuse(&r->vocab, "less than %d tokens", INT32_MAX);
    r->entries = memory__grow(NULL, r->capacity, sizeof *r->entries);
    memset(r->entries, 0, r->capacity * sizeof *r->entries);
    TRY(json_each(&r->vocab, read_vocab_entry, r));
    for (size_t i = 0; i < json_count(&r->added); i++) {
        TRY(json_item(&v, &r->added, i));
        TRY(read_added_token(r, &v));
    }
    TRY(check_specials_differ(r));

    for (size_t id = 0; id < r->count; id++) TRY(add_entry(r, id));

    // With all bytes there, every text has ids, and decoding gives it back.
    for (int byte = 0; byte < 256; byte++) {
        if (r->bpe->byte_id[byte] < 0)
            return json_refuse(&r->vocab, "a token for the byte 0x%02X", (unsigned)byte);
    }
    return OK;
}

// --- merges ---
// Splits one merge in its two spellings.
static Status merge_sides(const JsonAt *v, const char *side[2], size_t bytes[2]) {
    JsonAt item;
    if (json_kind(v) == J_LIST && json_count(v) == 2) {
        for (size_t i = 0; i < 2; i++) {
            TRY(json_item(&item, v, i));
            TRY(json_bytes(&side[i], &bytes[i], &item));
        }
        return OK;
    }
    if (json_kind(v) != J_TEXT) return json_refuse(v, "two tokens");
    TRY(json_bytes(&side[0], &bytes[0], v));
    const char *space = memchr(side[0], ' ', bytes[0]);
    if (space == NULL) return json_refuse(v, "two tokens");
    side[1] = space + 1;
    bytes[1] = (size_t)(side[0] + bytes[0] - side[1]);
    bytes[0] = (size_t)(space - side[0]);
    return OK;
}

static Status read_merge(Reader *r, const JsonAt *v) {
    const char *side[2];
    size_t bytes[2], count[2];
    TRY(merge_sides(v, side, bytes));

    // Both sides are decoded next to each other: the joined token needs no copy.
    char *joined = scratch(r, bytes[0] + bytes[1]);
    int id[3];
    char *at = joined;
    for (int i = 0; i < 2; i++) {
        bool spelled = byte_level__unspell(at, &count[i], side[i], bytes[i]);
        id[i] = spelled ? bpe__find(r->bpe, at, count[i]) : -1;
        if (id[i] < 0) return json_refuse(v, "two tokens of the vocabulary");
        at += count[i];
    }
    id[2] = bpe__find(r->bpe, joined, count[0] + count[1]);
    if (id[2] < 0) return json_refuse(v, "a pair that joins to a token of the vocabulary");
    if (!bpe__add_merge(r->bpe, id[0], id[1], id[2])) return json_refuse(v, "a new pair");
    return OK;
}

static Status read_merges(Reader *r, const JsonAt *model) {
    JsonAt merges, merge;
    TRY(json_need_list(&merges, model, "merges"));
    for (size_t i = 0; i < json_count(&merges); i++) {
        TRY(json_item(&merge, &merges, i));
        TRY(read_merge(r, &merge));
    }
    return OK;
}

static Status read_model(Reader *r, const JsonAt *model) {
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
    JsonAt type;
    const char *unknown;
    bool fuse;
    TRY(check_keys(model, KEYS));
    TRY(json_member(&type, model, "type"));
    if (type.value != NULL) TRY(check_text(model, "type", "BPE"));  // early files have none
    // Without effect, for every byte has a token.
    TRY(json_opt_text(&unknown, model, "unk_token"));
    TRY(json_opt_bool(&fuse, model, "fuse_unk"));
    TRY(check_none(model, "dropout"));
    TRY(check_none(model, "continuing_subword_prefix"));
    TRY(check_none(model, "end_of_word_suffix"));
    TRY(check_flag(model, "byte_fallback", false, false));
    TRY(json_opt_bool(&r->bpe->ignore_merges, model, "ignore_merges"));
    TRY(json_need_object(&r->vocab, model, "vocab"));
    TRY(read_tokens(r));
    return read_merges(r, model);
}

// What stands around the model: whether it is there, and whether it is of the kind that is built.
static Status read_frame(const JsonAt *top, bool *nfc, bool *adds) {
    JsonAt v;
    TRY(check_text(top, "version", "1.0"));
    TRY(check_none(top, "truncation"));
    TRY(check_none(top, "padding"));
    TRY(json_member(&v, top, "normalizer"));
    if (json_kind(&v) != J_NONE) TRY(read_normalizer(nfc, &v, false));
    TRY(json_member(&v, top, "post_processor"));
    if (json_kind(&v) != J_NONE) TRY(read_post_processor(adds, &v, false));
    TRY(json_need_object(&v, top, "decoder"));
    return check_text(&v, "type", "ByteLevel");
}

// The order matters: the split makes the tokenizer that the model fills.
static Status read_root(Reader *r, const JsonAt *top) {
    static const char *const KEYS[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    JsonAt split, model;
    bool nfc = false, adds = false;
    TRY(check_keys(top, KEYS));
    TRY(read_frame(top, &nfc, &adds));
    TRY(json_need_object(&split, top, "pre_tokenizer"));
    TRY(read_pre_tokenizer(r, &split));
    r->bpe->nfc = nfc;
    r->bpe->adds_tokens = adds;
    TRY(json_member(&r->added, top, "added_tokens"));
    if (json_kind(&r->added) != J_NONE) TRY(json_need_list(&r->added, top, "added_tokens"));
    TRY(json_need_object(&model, top, "model"));
    return read_model(r, &model);
}

Status bpe_read_hf(Bpe **bpe, const char *path) {
    *bpe = NULL;
    Json *root;
    TRY(json_open_file(&root, path));
    Reader r = {0};
    JsonAt top = json_top(root, path, HINT);
    Status st = read_root(&r, &top);
    if (st == OK) {
        bpe__finish(r.bpe);
        *bpe = r.bpe;
    } else {
        bpe_close(r.bpe);
    }
    free(r.entries);
    free(r.scratch);
    json_close(root);
    return st;
}
