// JSON, MessagePack, YAML and the configuration tables, command lines, numbers.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/pack.h"
#include "base/text.h"
#include "base/yaml.h"
#include "data/internal.h"
#include "data/package.h"
#include "data/archive.h"
#include "fuzz.h"
#include "train/commands.h"
#include "train/run.h"

// --- JSON: what was read and written is read and written the same ---

static void copy_value(JsonOut *w, const char *key, const JsonAt *v);

static Status copy_member(const JsonAt *member, void *user) {
    copy_value(user, member->key, member);
    return OK;
}

static void copy_list(JsonOut *w, const char *key, const JsonAt *v) {
    jsonout_open_array(w, key);
    for (size_t i = 0; i < json_count(v); i++) {
        JsonAt item;
        ASSERT(json_item(&item, v, i) == OK);
        copy_value(w, NULL, &item);
    }
    jsonout_close_array(w);
}

static void copy_scalar(JsonOut *w, const char *key, const JsonAt *v) {
    const char *text;
    size_t bytes;
    int64_t integer;
    double number;
    bool flag;
    if (json_bytes(&text, &bytes, v) == OK) {
        jsonout_text_n(w, key, text, bytes);
    } else if (json_int(&integer, v) == OK) {
        jsonout_int(w, key, integer);
    } else if (json_number(&number, v) == OK) {
        jsonout_number(w, key, number);
    } else if (json_bool(&flag, v) == OK) {
        jsonout_bool(w, key, flag);
    } else {
        ASSERT(json_kind(v) == J_NONE);
        jsonout_none(w, key);
    }
}

static void copy_value(JsonOut *w, const char *key, const JsonAt *v) {
    if (json_kind(v) == J_OBJECT) {
        jsonout_open_object(w, key);
        ASSERT(json_each(v, copy_member, w) == OK);
        jsonout_close_object(w);
    } else if (json_kind(v) == J_LIST) {
        copy_list(w, key, v);
    } else {
        copy_scalar(w, key, v);
    }
}

static JsonOut json_copy(const Json *root) {
    JsonOut w = {0};
    JsonAt top = json_top(root, "input", "");
    copy_value(&w, NULL, &top);
    return w;
}

static void run_json(const uint8_t *data, size_t bytes) {
    Json *root = NULL, *again = NULL;
    if (json_open(&root, (const char *)data, bytes, "input") == OK) {
        JsonOut first = json_copy(root);
        ASSERT(json_open(&again, first.text, first.bytes, "copy") == OK);
        JsonOut second = json_copy(again);
        ASSERT(first.bytes == second.bytes && memcmp(first.text, second.text, first.bytes) == 0);
        jsonout_free(&first);
        jsonout_free(&second);
    }
    json_close(root);
    json_close(again);
}

static void seed_json(void) {
    fuzz_seed_texts((const char *const[]){
        "{\"a\":[1,2.5,-3e-7,true,null,\"\\u00e9\\n\\u0000\"],\"b\":{\"c\":{}}}",
        "[1e30,123456789012345678901234567890]", "\xEF\xBB\xBF\"text\"", NULL});
}

// --- MessagePack ---

// Members "a" of maps, and all items of lists below "b".
static void walk_pack(const PackValue *v, int depth) {
    static const char *const KEYS[] = {"a", "b"};
    for (int k = 0; k < 2; k++) {
        char text[8];
        uint64_t u;
        int64_t i;
        double d;
        bool flag;
        uint32_t bytes;
        const void *data;
        const PackValue *inner;
        int is = (pack_u64(&u, v, KEYS[k]) == OK) + (pack_i64(&i, v, KEYS[k]) == OK);
        is += (pack_f64(&d, v, KEYS[k]) == OK) + (pack_bool(&flag, v, KEYS[k]) == OK);
        if (pack_text(text, sizeof text, v, KEYS[k]) == OK)
            ASSERT(memchr(text, 0, sizeof text) != NULL), is++;
        if (pack_bytes(&data, &bytes, v, KEYS[k]) == OK)
            ASSERT(bytes == 0 || hash64(data, bytes) != 1), is++;
        ASSERT(is <= 3);  // a whole number is one of each kind
        ASSERT(depth < 64);
        if (pack_map(&inner, v, KEYS[k]) == OK) walk_pack(inner, depth + 1);
        if (pack_array(&inner, &bytes, v, KEYS[k]) != OK) continue;
        for (uint32_t at = 0; at < bytes; at++) {
            const PackValue *item;
            (void)!pack_item_u64(&u, inner, at);
            (void)!pack_item_i64(&i, inner, at);
            ASSERT(pack_item(&item, inner, at) == OK);
            walk_pack(item, depth + 1);
        }
    }
}

static void run_pack(const uint8_t *data, size_t bytes) {
    Pack *p = NULL;
    if (pack_open(&p, (const char *)data, bytes, "input") == OK) walk_pack(pack_root(p), 0);
    pack_close(p);
}

static void seed_pack(void) {
    PackOut *w = packout_new();
    packout_map(w, 2);
    packout_text(w, "a");
    packout_array(w, 6);
    packout_u64(w, UINT64_MAX);
    packout_i64(w, INT64_MIN);
    packout_f64(w, 0.1);
    packout_bool(w, true);
    packout_bytes(w, "\0\1", 2);
    packout_map(w, 0);
    packout_text(w, "b");
    packout_text(w, "");
    size_t bytes;
    const char *data = packout_data(w, &bytes);
    fuzz_seed(data, bytes);
    packout_free(w);
}

// --- configuration ---

static bool utf8_valid(const char *text) {
    uint32_t code;
    while (*text != '\0') {
        int used = utf8_decode(&code, text, strlen(text));
        if (used == 0) return false;
        text += used;
    }
    return true;
}

typedef struct Yaml {
    int last_line;
} Yaml;

static Status check_entry(const YamlEntry *e, void *user) {
    Yaml *y = user;
    ASSERT(e->line >= y->last_line && e->key[0] != '\0');
    ASSERT(utf8_valid(e->key) && utf8_valid(e->value));
    y->last_line = e->line;
    return OK;
}

static void run_yaml(const uint8_t *data, size_t bytes) {
    (void)!yaml_each((const char *)data, bytes, "input", check_entry, &(Yaml){1});
}

static void seed_yaml(void) {
    fuzz_seed_texts((const char *const[]){
        "a:\n  b: [x, 'y z', 3]\n  c: {d: ~, e: \"\\u00e9\\n\"}\n# note\nf: |\n  text\n", "- a\n",
        "a: &x 1\nb: *x\n", "? [a]\n: b\n", "a: !!int 3\n---\nb: 1\n", NULL});
}

// One file and then words, as the command line has them; what was accepted is written and read back
// to the same values.
static void run_config(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, file = fuzz_part(&rest);
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st =
        file.bytes == 0 ? OK : config_read_file(c, fuzz_file("run.yaml", file.at, file.bytes));
    while (st == OK && rest.bytes > 0) {
        char *word = fuzz_text(fuzz_part(&rest));
        st = config_set(c, word, "command line");
        free(word);
    }
    if (st == OK) {
        char *before = config_dump(c), differences[200];
        const char *path = fuzz_path("resolved.yaml");
        (void)!run_config_check(cfg);
        ModelConfig model = cfg->model;
        (void)!model_config_resolve(&model, c);
        ASSERT(config_write(c, path) == OK);
        Config *again = config_new(sections, RUN_SECTIONS);
        ASSERT(config_read_file(again, path) == OK);
        char *after = config_dump(again);
        ASSERT(config_diff(before, after, differences, sizeof differences) == 0 &&
               strcmp(before, after) == 0);
        free(before);
        free(after);
        config_free(again);
    }
    config_free(c);
    free(cfg);
}

static void seed_config(void) {
    fuzz_seed_texts(
        (const char *const[]){"\n%%%%\ntrain.steps=1K\n%%%%\noptim.beta1=0.5",
                              "data: {mix: [a=1, b=2], offline: yes}\nmodel:\n  pattern: \"LNL\"\n",
                              "train.steps: 1_000\ntrain:\n  sample_prompt: 'a: "
                              "\\b'\n%%%%\ndata.sources=a,b\n%%%%\nmodel.lrpe=\"\"",
                              NULL});
}

static void run_config_diff(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, first = fuzz_part(&rest);
    char *a = fuzz_text(first), *b = fuzz_text(rest), out[100];
    config_diff(a, b, out, sizeof out);
    ASSERT(strlen(out) < sizeof out && config_diff(a, a, out, sizeof out) == 0);
    free(a);
    free(b);
}

static void seed_config_diff(void) {
    fuzz_seed_texts((const char *const[]){"a.b: 1\nc: \"x\"\n\n%%%%\na.b: 2\nc: \"x\"\n", NULL});
}

// One word a line.
static void run_arguments(const uint8_t *data, size_t bytes) {
    const char *dir = NULL, *count = NULL, *flag = NULL;
    const Option options[] = {
        {"out", "DIR", "", &dir}, {"count", "N", "", &count}, {"flag", NULL, "", &flag}};
    char *text = fuzz_text((FuzzPart){(const char *)data, bytes}), *argv[3 * MAX_WORDS] = {"train"},
         *state;
    int argc = 1;
    for (char *word = strtok_r(text, "\n", &state); word != NULL && argc < 3 * MAX_WORDS;
         word = strtok_r(NULL, "\n", &state))
        argv[argc++] = word;
    Arguments a;
    long number;
    if (arguments_parse(&a, argc, argv, options, 3) == OK) {
        ASSERT(a.word_count <= MAX_WORDS && a.setting_count <= MAX_WORDS);
        for (int i = 0; i < a.setting_count; i++) ASSERT(strchr(a.settings[i], '=') != NULL);
        if (count != NULL && option_number(&number, "count", count, -5, 1000) == OK)
            ASSERT(number >= -5 && number <= 1000);
    }
    free(text);
}

static void seed_arguments(void) {
    fuzz_seed_texts(
        (const char *const[]){"--out\nd\n--count=12\n--flag\na.yaml\nmodel.width=3\n-\n--", NULL});
}

// --- small texts ---

static void run_text(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, first = fuzz_part(&rest);
    char *a = fuzz_text(first), *b = fuzz_text(rest), text[DOUBLE_TEXT_BYTES];
    uint32_t code;
    for (size_t at = 0; at < bytes;) {
        int used = utf8_decode(&code, (const char *)data + at, bytes - at);
        ASSERT(used >= 0 && used <= 4 && (size_t)used <= bytes - at);
        if (used > 0) code_is_printable(code);
        at += used == 0 ? 1 : (size_t)used;
    }
    ASSERT(text_distance(a, b) == text_distance(b, a) && text_distance(a, a) == 0);
    double v, back;
    if (bytes >= sizeof v) {
        memcpy(&v, data, sizeof v);
        ASSERT(double_to_text(text, v) < DOUBLE_TEXT_BYTES);
        back = strtod(text, NULL);
        ASSERT(isnan(v) || memcmp(&v, &back, sizeof v) == 0);
    }
    free(a);
    free(b);
}

static void seed_text(void) {
    fuzz_seed_texts((const char *const[]){"optim.lr\n%%%%\noptim.ir",
                                          "\xC3\xA9\xF0\x9F\x98\x80\xED\xA0\x80", NULL});
}

// A line of apt-get --print-uris: what becomes a file of ours is no path.
static void run_package_uri(const uint8_t *data, size_t bytes) {
    char *text = fuzz_text((FuzzPart){(const char *)data, bytes});
    PackageUri uri;
    if (package_uri_parse(&uri, text) == OK)
        ASSERT(strchr(uri.file, '/') == NULL && path_safe(uri.file) && uri.bytes > 0 &&
               (uri.sha256[0] == '\0' || strlen(uri.sha256) == 64));
    free(text);
}

static void seed_package_uri(void) {
    fuzz_seed_texts((const char *const[]){
        "'http://deb.debian.org/debian/pool/main/d/dict/dict_1.0_all.deb' dict_1.0_all.deb 123 "
        "SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
        "'file:/a' b 1 MD5Sum:00", NULL});
}

// data.mix against three sources: what is accepted are shares of 1.
static void run_mix(const uint8_t *data, size_t bytes) {
    static const char *const names[] = {"austen", "kjv", "devil"};
    static const int64_t tokens[] = {100, 0, 50};
    char *text = fuzz_text((FuzzPart){(const char *)data, bytes});
    for (int known = 0; known < 2; known++) {
        double w[3], sum = 0;
        if (mix__parse(w, text, &(MixSources){names, known ? tokens : NULL, 3}) != OK) continue;
        for (int k = 0; k < 3; k++) ASSERT(w[k] >= 0), sum += w[k];
        ASSERT(fabs(sum - 1) < 1e-9 && (!known || w[1] == 0));
    }
    free(text);
}

static void seed_mix(void) {
    fuzz_seed_texts((const char *const[]){"austen=0.6,kjv=0.4", " devil = 1e-3 , austen=2", NULL});
}

// data.sources, and names of held-out titles.
static void run_inputs(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, list = fuzz_part(&rest), mix = fuzz_part(&rest);
    DataConfig *cfg = calloc(1, sizeof *cfg);
    Inputs *in = calloc(1, sizeof *in);
    ASSERT(cfg != NULL && in != NULL);
    if (list.bytes < TEXT_BYTES) memcpy(cfg->sources, list.at, list.bytes);
    if (mix.bytes < TEXT_BYTES) memcpy(cfg->mix, mix.at, mix.bytes);
    if (inputs__parse(in, cfg) == OK) {
        ASSERT(in->count > 0 && in->count <= MAX_SOURCES);
        for (int k = 0; k < in->count; k++) ASSERT(strlen(in->name[k]) < SOURCE_NAME_BYTES);
        (void)!inputs__outside(in, "train.run_dir", "/tmp/x");
    }
    char *title = fuzz_text(rest);
    holdout__matches(cfg->sources, title);
    free(title);
    free(cfg);
    free(in);
}

static void seed_inputs(void) {
    fuzz_seed_texts((const char *const[]){"austen,kjv\n%%%%\nkjv=1\n%%%%\nEmma",
                                          "/etc/hostname, ./x/../y,pod", NULL});
}

const FuzzTarget BASE_TARGETS[] = {
    {"json", run_json, seed_json, NULL},
    {"pack", run_pack, seed_pack, NULL},
    {"yaml", run_yaml, seed_yaml, NULL},
    {"config", run_config, seed_config, "configs/tiny.yaml configs/quickstart.yaml"},
    {"config_diff", run_config_diff, seed_config_diff, NULL},
    {"arguments", run_arguments, seed_arguments, NULL},
    {"text", run_text, seed_text, NULL},
    {"package_uri", run_package_uri, seed_package_uri, NULL},
    {"mix", run_mix, seed_mix, NULL},
    {"inputs", run_inputs, seed_inputs, NULL},
    {NULL, NULL, NULL, NULL},
};
