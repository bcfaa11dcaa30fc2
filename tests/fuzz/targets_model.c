// Weights, checkpoints, corpora, config.json and the files of a run directory. Where a checksum
// guards a file, it is made right first: damage is what the tests of each format look for, here it
// is the fields.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pack.h"
#include "checkpoints/internal.h"
#include "data/internal.h"
#include "fuzz.h"
#include "model/model.h"
#include "train/report_internal.h"
#include "train/run.h"

// --- safetensors ---

static void read_all(const StFile *f) {
    for (int i = 0; i < st_count(f); i++) {
        const StTensor *t = st_tensor(f, i);
        ASSERT(st_find(f, t->name) == t);
        uint64_t elements = t->bytes / dtype_bytes(t->dtype);
        for (uint64_t e = 0; e < elements; e++) {
            real value;
            if (st_read_reals(f, t, &value, e, 1) != OK) break;
        }
        ASSERT(hash64(st_data(f, t), (size_t)t->bytes) != 1);
    }
}

static void run_safetensors(const uint8_t *data, size_t bytes) {
    StFile *f = NULL;
    if (st_open(&f, fuzz_file("a.safetensors", data, bytes)) == OK) read_all(f);
    st_close(f);
}

// One of our own with these rows; *bytes of it.
static char *made_weights(const char *first, const char *second, size_t *bytes) {
    static const real values[6] = {1, 2, 3, 4, 5, 6};
    StSource src[2] = {{.t = {.dtype = DTYPE_F32, .ndim = 2, .dim = {3, 2}}, .data = values},
                       {.t = {.dtype = DTYPE_BF16, .ndim = 1, .dim = {4}}, .data = values}};
    snprintf(src[0].t.name, sizeof src[0].t.name, "%s", first);
    snprintf(src[1].t.name, sizeof src[1].t.name, "%s", second);
    const char *path = fuzz_path("seed.safetensors");
    char *text;
    ASSERT(st_write(path, src, 2) == OK && file_read(path, &text, bytes) == OK);
    return text;
}

static void seed_safetensors(void) {
    size_t bytes;
    char *text = made_weights("a", "b", &bytes);
    fuzz_seed(text, bytes);
    free(text);
    static const char OLD[] =
        "\x5f\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]}}0123456789abcdef";
    fuzz_seed(OLD, sizeof OLD - 1);
}

// A model of two rows from a directory: the index (or none, for a single file) and two shards.
static void run_hf_import(const uint8_t *data, size_t bytes) {
    static const int EMBED[] = {3, 2}, NORM[] = {4};
    FuzzPart rest = {(const char *)data, bytes}, index = fuzz_part(&rest), a = fuzz_part(&rest);
    if (index.bytes > 0) fuzz_file("model.safetensors.index.json", index.at, index.bytes);
    fuzz_file(index.bytes > 0 ? "a.safetensors" : "model.safetensors", a.at, a.bytes);
    fuzz_file("b.safetensors", rest.at, rest.bytes);
    ParamSet ps = {0};
    params_add(&ps, "model.embed_tokens.weight", 2, EMBED, INIT_NORMAL, 1);
    params_add(&ps, "model.norm.weight", 1, NORM, INIT_ONE, 0);
    ASSERT(params_reserve(&ps, false) == OK);
    Dtype stored;
    for (int tied = 0; tied < 2; tied++) (void)!hf_import(&ps, fuzz_dir(), tied, &stored);
    (void)!hf_check_tied(fuzz_dir());
    params_free(&ps);
}

static void seed_hf_import(void) {
    static const char INDEX[] = "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"model.embed_"
                                "tokens.weight\":\"a.safetensors\","
                                "\"model.norm.weight\":\"a.safetensors\",\"lm_head.weight\":\"b."
                                "safetensors\",\"x.inv_freq\":\"b.safetensors\"}}";
    size_t bytes[3] = {0, 0, 0};
    char *a = made_weights("model.embed_tokens.weight", "model.norm.weight", &bytes[1]);
    char *b = made_weights("lm_head.weight", "decoder.version", &bytes[2]);
    fuzz_seed_parts((const char *const[]){"", a}, bytes, 2);
    bytes[0] = sizeof INDEX - 1;
    fuzz_seed_parts((const char *const[]){INDEX, a, b}, bytes, 3);
    free(a);
    free(b);
}

// --- checkpoints ---

// As manifest__write wraps it.
static void wrap_manifest(const void *body, size_t bytes) {
    PackOut *w = packout_new();
    size_t all;
    packout_map(w, 2);
    packout_text(w, "xxh3_64");
    packout_u64(w, hash64(body, bytes));
    packout_text(w, "manifest");
    packout_bytes(w, body, (uint32_t)bytes);
    const char *text = packout_data(w, &all);
    fuzz_file("manifest.msgpack", text, all);
    packout_free(w);
}

// A manifest's body, and a file of weights that it may name.
static void run_manifest(const uint8_t *data, size_t bytes) {
    FuzzPart rest = {(const char *)data, bytes}, body = fuzz_part(&rest);
    Manifest m;
    fuzz_file("manifest.msgpack", body.at, body.bytes);
    (void)!checkpoint_verify(fuzz_dir());
    wrap_manifest(body.at, body.bytes);
    fuzz_file("model.safetensors", rest.at, rest.bytes);
    if (checkpoint_manifest(fuzz_dir(), &m) == OK) {
        ASSERT(m.step >= 0 && m.dp >= 1 && m.sp >= 1 && m.tp >= 1 && m.state != NULL &&
               m.config != NULL);
        manifest_free(&m);
    }
    (void)!checkpoint_verify(fuzz_dir());
}

static void seed_manifest(void) {
    size_t bytes[2], header, outer;
    char *weights = made_weights("a", "b", &bytes[1]), *text;
    StFile *f = NULL;
    ASSERT(st_open(&f, fuzz_file("model.safetensors", weights, bytes[1])) == OK);
    uint64_t hash[2] = {hash64(st_data(f, st_tensor(f, 0)), (size_t)st_tensor(f, 0)->bytes),
                        hash64(st_data(f, st_tensor(f, 1)), (size_t)st_tensor(f, 1)->bytes)};
    FileRecord r = {
        .file = "model.safetensors", .bytes = bytes[1], .tensor_hash = hash, .tensor_count = 2};
    const void *head = st__header(f, &header);
    r.header_hash = hash64(head, header);
    const Slice layout[2] = {{.tensor = "a"}, {.tensor = "b"}};
    const CkptPart part = {.file = "model.safetensors", .layout = layout, .layout_count = 2};
    const Manifest m = {.step = 10,
                        .dp = 2,
                        .sp = 1,
                        .tp = 1,
                        .config = (char *)"",
                        .state = (char *)"\x80",
                        .state_bytes = 1};
    ASSERT(manifest__write(fuzz_dir(), &m, &(FileTable){&r, 1, 0}, &part) == OK);
    ASSERT(checkpoint_verify(fuzz_dir()) == OK &&
           file_read(fuzz_path("manifest.msgpack"), &text, &outer) == OK);
    Pack *p = NULL;
    ASSERT(pack_open(&p, text, outer, "manifest") == OK);
    uint32_t inner;
    const void *body;
    ASSERT(pack_bytes(&body, &inner, pack_root(p), "manifest") == OK);
    bytes[0] = inner;
    fuzz_seed_parts((const char *const[]){body, weights}, bytes, 2);
    pack_close(p);
    st_close(f);
    free(text);
    free(weights);
}

// --- corpora ---

// The index without its last ten bytes, which hash the others.
static void run_index(const uint8_t *data, size_t bytes) {
    Index ix;
    char *whole = malloc(bytes + 10);
    ASSERT(whole != NULL);
    fuzz_file(INDEX_FILE, data, bytes);
    if (index__read(&ix, fuzz_dir()) == OK) index__free(&ix);
    if (bytes > 0) memcpy(whole, data, bytes);
    memcpy(whole + bytes, "\xC4\x08", 2);
    uint64_t hash = hash64(whole, bytes);
    memcpy(whole + bytes + 2, &hash, sizeof hash);
    fuzz_file(INDEX_FILE, whole, bytes + 10);
    free(whole);
    if (index__read(&ix, fuzz_dir()) == OK) {
        ASSERT(ix.report.count <= MAX_SOURCES && ix.vocab > 0 && ix.eod < (uint32_t)ix.vocab);
        for (int i = 0; i < ix.shard_count; i++) ASSERT(ix.shards[i].source < ix.report.count);
        index__free(&ix);
    }
}

// Two sources of a shard each, or one of two.
static void seed_one_index(uint64_t tokens, int second_source) {
    IndexShard shards[2] = {{.tokens = tokens, .docs = 2, .hash = 5},
                            {.tokens = tokens, .docs = 1, .hash = 6, .source = second_source}};
    Index *ix = calloc(1, sizeof *ix);
    ASSERT(ix != NULL);
    *ix = (Index){.vocab = 300,
                  .eod = 2,
                  .shards = shards,
                  .shard_count = 2,
                  .holdout = {.tokens = 3, .docs = 1}};
    ix->report.count = 2;
    int64_t total = (int64_t)tokens;
    ix->report.source[0] = (SourceReport){.name = "austen", .tokens = total, .weight = 0.5};
    ix->report.source[1] = (SourceReport){.name = "kjv", .tokens = total, .weight = 0.5};
    ix->corpus = index__corpus_hash(ix);
    const char *path = fuzz_path(INDEX_FILE);
    char *text;
    size_t bytes;
    ASSERT(index__write(ix, fuzz_dir()) == OK && file_read(path, &text, &bytes) == OK);
    fuzz_seed(text, bytes - 10);
    free(text);
    free(ix);
}

static void seed_index(void) {
    seed_one_index(8, 1);
    seed_one_index(INT64_MAX, 0);  // whose sum does not fit
}

// Whatever the header says, the tokens lie in the file.
static void read_shard(const char *path, bool verify) {
    Shard *s = NULL;
    if (shard_open(&s, path, verify) != OK) return;
    const ShardInfo *info = shard_info(s);
    int32_t token;
    for (uint64_t i = 0; i < info->tokens; i++) {
        shard_tokens(s, &token, i, 1);
        if (verify) ASSERT(token >= 0 && (uint32_t)token < info->vocab);
    }
    for (uint64_t d = 0; d < info->docs; d++)
        if (verify) ASSERT(shard_doc_ends(s)[d] <= info->tokens);
    shard_close(s);
}

// As it is, and with right checksums of header and sections.
static void run_shard(const uint8_t *data, size_t bytes) {
    enum { HEADER = 512, TABLE = 80, ROW = 32, SECTIONS = 3 };
    read_shard(fuzz_file("a.tns", data, bytes), true);
    if (bytes < HEADER + 8) return;
    char *file = malloc(bytes);
    ASSERT(file != NULL);
    memcpy(file, data, bytes);
    for (int i = 0; i < SECTIONS; i++) {
        char *row = file + TABLE + i * ROW;
        uint64_t offset, size, hash;
        memcpy(&offset, row + 8, 8);
        memcpy(&size, row + 16, 8);
        if (offset > bytes || size > bytes - offset) continue;
        hash = hash64(file + offset, size);
        memcpy(row + 24, &hash, 8);
    }
    uint64_t hash = hash64(file, HEADER);
    memcpy(file + bytes - 8, &hash, 8);
    const char *path = fuzz_file("b.tns", file, bytes);
    read_shard(path, true);
    read_shard(path, false);
    free(file);
}

static void seed_shard(void) {
    static const int32_t TOKENS[] = {5, 6, 2, 7, 2};
    static const uint64_t ENDS[] = {3, 5}, IDS[] = {1, 2};
    for (uint32_t vocab = 300; vocab <= 300000; vocab *= 1000) {
        ShardInfo info = {.tokens = 5, .docs = 2, .vocab = vocab, .eod = 2};
        const char *path = fuzz_path("seed.tns");
        char *text;
        size_t bytes;
        ASSERT(shard_write(path, &info, TOKENS, ENDS, IDS) == OK &&
               file_read(path, &text, &bytes) == OK);
        fuzz_seed(text, bytes);
        free(text);
    }
}

// Orders are permutations, and each source keeps its share.
static void run_sampler(const uint8_t *data, size_t bytes) {
    uint64_t v[3];
    if (bytes < sizeof v) return;
    memcpy(v, data, sizeof v);
    uint64_t n = v[0] % ((uint64_t)1 << (1 + v[2] % 62)) + 1;
    ASSERT(sampler__permute(n, v[1] % n, v[2], (uint32_t)v[1], (uint32_t)v[0]) < n);
    uint8_t seen[256] = {0};
    for (uint64_t i = 0; i <= v[0] % 256; i++) {
        uint64_t at = sampler__permute(v[0] % 256 + 1, i, v[2], 3, 4);
        ASSERT(seen[at]++ == 0);
    }
    double w[8], sum = 0;
    int64_t counts[8] = {0};
    int sources = 1 + (int)(v[2] % 8);
    for (int k = 0; k < sources; k++) sum += w[k] = data[(size_t)k % bytes] + 1;
    for (int k = 0; k < sources; k++) w[k] /= sum;
    for (int64_t i = 0; i < 200; i++) {
        int k = sampler__pick(w, counts, sources, i);
        ASSERT(k >= 0 && k < sources);
        counts[k]++;
        for (int j = 0; j < sources; j++)
            ASSERT(fabs((double)counts[j] - w[j] * (double)(i + 1)) < 1 + 1e-6);
    }
}

static void seed_sampler(void) {
    fuzz_seed("0123456789abcdefghijklmn", 24);
}

// --- config.json: what is accepted can be laid out, and is written to be read the same ---

static void read_config(ModelConfig *m, const char *path, Status *st) {
    Section section = {MODEL_FIELDS, MODEL_FIELD_COUNT, m};
    Config *defaults = config_new(&section, 1);
    *st = model_config_read_hf(m, path);
    if (*st == OK) *st = model_config_resolve(m, NULL);
    config_free(defaults);
}

static void run_config_json(const uint8_t *data, size_t bytes) {
    ModelConfig *m = calloc(2, sizeof *m);
    ASSERT(m != NULL);
    Status st, again;
    read_config(&m[0], fuzz_file("config.json", data, bytes), &st);
    if (st == OK) {
        char *text = model_config_write_hf(&m[0], "float32");
        read_config(&m[1], fuzz_file("written.json", text, strlen(text)), &again);
        ASSERT(again == OK);
        char *twice = model_config_write_hf(&m[1], "float32");
        ASSERT(strcmp(text, twice) == 0);
        free(text);
        free(twice);
        Model model = {0};
        if (model_open(&model, &m[0], NULL) == OK) ASSERT(model_parameters(&model) > 0);
        model_close(&model);
    }
    free(m);
}

static void seed_config_json(void) {
    fuzz_seed_texts((const char *const[]){
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,"
        "\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":16,\"vocab_"
        "size\":32,\"rms_norm_eps\":1e-5,"
        "\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\",\"bos_token_"
        "id\":1,\"eos_token_id\":[2,3],"
        "\"rope_scaling\":null,\"max_position_embeddings\":64,\"torch_dtype\":\"bfloat16\"}",
        NULL});
    ModelConfig *m = calloc(1, sizeof *m);
    ASSERT(m != NULL);
    Section section = {MODEL_FIELDS, MODEL_FIELD_COUNT, m};
    Config *c = config_new(&section, 1);
    ASSERT(config_set(c, "model.preset=tnl-tiny-hybrid", "seed") == OK &&
           config_set(c, "model.vocab=64", "seed") == OK);
    ASSERT(model_config_resolve(m, c) == OK);
    char *text = model_config_write_hf(m, "float32");
    fuzz_seed(text, strlen(text));
    free(text);
    config_free(c);
    free(m);
}

// --- the run directory ---

static void run_report(const uint8_t *data, size_t bytes) {
    static const char *const NAMES[] = {"metrics.jsonl",
                                        "corpus.json",
                                        "comm.json",
                                        "exit.json",
                                        "compressors.json",
                                        "config.resolved.yaml",
                                        "samples/step_00000010.txt",
                                        "samples/x.txt"};
    FuzzPart rest = {(const char *)data, bytes};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        FuzzPart part = fuzz_part(&rest);
        fuzz_file(NAMES[i], part.at, part.bytes);
    }
    ASSERT(report_write(fuzz_dir()) == OK);
}

static void seed_report(void) {
    fuzz_seed_texts((const char *const[]){
        "{\"kind\":\"step\",\"step\":1,\"loss\":6.1,\"lr\":1e-3,\"gnorm\":0.5,\"tokens\":448,"
        "\"tokens_seen\":448,\"step_s\":0.1,\"tok_s\":4480}\n"
        "{\"kind\":\"eval\",\"step\":1,\"final\":true,\"nats_per_token\":6.1,\"bits_per_byte\":4.2,"
        "\"tokens\":100}\n{\"kind\":\"st\n%%%%\n"
        "{\"sources\":[{\"name\":\"austen\",\"docs\":2,\"bytes\":9,\"tokens\":3,\"duplicates\":0,"
        "\"held_out_docs\":1,\"weight\":1}],"
        "\"bytes_per_token\":3.1,\"holdout_bytes\":9,\"holdout_tokens\":3,\"parameters\":60000,"
        "\"model\":\"TNL <b>\"}\n%%%%\n"
        "{\"dp\":1,\"ranks\":2,\"steps\":3,\"step_s\":0.3,\"uses\":[{\"name\":\"gradients\","
        "\"calls\":3,\"bytes\":100,\"wait_s\":0.1,\"exposed_s\":0.1}],"
        "\"between_steps\":[]}\n%%%%\n{\"reason\":\"finished\",\"status\":\"OK\",\"code\":0,"
        "\"steps\":1}\n%%%%\n{\"xz\":2.1,\"zstd\":2.3}\n%%%%\n"
        "a: 1\n%%%%\nOnce <upon> \xFF\n%%%%\nx",
        NULL});
}

// Cut after a step, the lines are a beginning of what they were; cut again, they stay.
// The next line of a text, without its end; false: there is none.
static bool line_take(FuzzPart *rest, FuzzPart *line) {
    if (rest->bytes == 0) return false;
    const char *end = memchr(rest->at, '\n', rest->bytes);
    size_t n = end == NULL ? rest->bytes : (size_t)(end - rest->at), taken = n + (end != NULL);
    *line = (FuzzPart){rest->at, n};
    *rest = (FuzzPart){rest->at + taken, rest->bytes - taken};
    return true;
}

// All lines of `part` are lines of `whole`, in its order.
static bool lines_of(FuzzPart part, FuzzPart whole) {
    FuzzPart wanted, line;
    while (line_take(&part, &wanted)) {
        bool found = false;
        while (!found && line_take(&whole, &line))
            found = line.bytes == wanted.bytes && memcmp(line.at, wanted.at, line.bytes) == 0;
        if (!found) return false;
    }
    return true;
}

// Cutting twice is cutting once, and adds nothing.
static void run_metrics_cut(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return;
    int64_t step = data[0];
    bool evaluated, again;
    char *once, *twice;
    size_t once_bytes, twice_bytes;
    const char *path = fuzz_file("metrics.jsonl", data + 1, bytes - 1);
    ASSERT(metrics_cut(fuzz_dir(), step, &evaluated) == OK &&
           file_read(path, &once, &once_bytes) == OK);
    ASSERT(metrics_cut(fuzz_dir(), step, &again) == OK &&
           file_read(path, &twice, &twice_bytes) == OK);
    ASSERT(lines_of((FuzzPart){once, once_bytes}, (FuzzPart){(const char *)data + 1, bytes - 1}));
    ASSERT(once_bytes == twice_bytes && memcmp(once, twice, once_bytes) == 0 && evaluated == again);
    free(once);
    free(twice);
}

static void seed_metrics_cut(void) {
    fuzz_seed_texts(
        (const char *const[]){"\1{\"kind\":\"step\",\"step\":1}\n{\"kind\":\"eval\",\"step\":1}\n{"
                              "\"kind\":\"step\",\"step\":2}\n{\"kind\":\"st",
                              NULL});
}

const FuzzTarget MODEL_TARGETS[] = {
    {"safetensors", run_safetensors, seed_safetensors, NULL},
    {"hf_import", run_hf_import, seed_hf_import, NULL},
    {"manifest", run_manifest, seed_manifest, NULL},
    {"index", run_index, seed_index, NULL},
    {"shard", run_shard, seed_shard, NULL},
    {"sampler", run_sampler, seed_sampler, NULL},
    {"config_json", run_config_json, seed_config_json, NULL},
    {"report", run_report, seed_report, NULL},
    {"metrics_cut", run_metrics_cut, seed_metrics_cut, NULL},
    {NULL, NULL, NULL, NULL},
};
