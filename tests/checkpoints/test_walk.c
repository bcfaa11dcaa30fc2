// Headers, indexes and manifests with a wrong kind of value in every place.
#include "base/pack.h"
#include "checkpoints/internal.h"
#include "tests/checkpoints/scratch.h"
#include "tests/json_walk.h"
#include "tests/pack_walk.h"

TestSuite(walk, .init = scratch_open, .fini = scratch_close);

static void write_fast(const char *name, const void *data, size_t bytes) {
    FILE *file =
        fopen(scratch_path(name), "wb");  // not file_write: hundreds of files need no fsync
    cr_assert(file != NULL && fwrite(data, 1, bytes, file) == bytes);
    fclose(file);
}

static Status read_header(const char *text, size_t bytes) {
    char file[1024];
    uint64_t length = bytes;
    memcpy(file, &length, sizeof length);
    memcpy(file + 8, text, bytes);
    memset(file + 8 + bytes, 0, 24);
    write_fast("x", file, 8 + bytes + 24);
    StFile *f = NULL;
    Status st = st_open(&f, scratch_path("x"));
    st_close(f);
    return st;
}

Test(walk, every_place_of_a_header_refuses_other_kinds_of_values) {
    static const char *const ALLOWED[] = {"note IFBNLO", NULL};
    cr_assert_gt(json_walk("{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                           "\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[16,24]}}",
                           read_header, ALLOWED),
                 80);
}

static Status read_index(const char *text, size_t bytes) {
    write_fast("model.safetensors.index.json", text, bytes);
    return hf_check_tied(scratch);
}

Test(walk, every_place_of_an_index_refuses_other_kinds_of_values) {
    static const char *const ALLOWED[] = {"metadata TIFBNLO", "metadata/* TIFBNLO",
                                          NULL};  // not read
    real one = 1;
    StSource source = {{.name = "t", .dtype = DTYPE_F32, .ndim = 1, .dim = {1}}, &one};
    cr_assert_eq(st_write(scratch_path("one.safetensors"), &source, 1), OK);
    cr_assert_gt(
        json_walk("{\"metadata\":{\"total_size\":4},\"weight_map\":{\"t\":\"one.safetensors\"}}",
                  read_index, ALLOWED),
        20);
}

static Status read_manifest(const char *body, size_t bytes) {
    PackOut *outer = packout_new();
    size_t whole;
    packout_map(outer, 2);
    packout_text(outer, "xxh3_64");
    packout_u64(outer, hash64(body, bytes));
    packout_text(outer, "manifest");
    packout_bytes(outer, body, (uint32_t)bytes);
    const char *data = packout_data(outer, &whole);
    write_fast("manifest.msgpack", data, whole);
    packout_free(outer);
    Manifest m;
    Status st = checkpoint_manifest(scratch, &m);
    if (st == OK) manifest_free(&m);
    return st;
}

Test(walk, every_place_of_a_manifest_refuses_other_kinds_of_values) {
    Slice layout = {.tensor = "t"};
    CkptPart part = {.file = "w.safetensors", .layout = &layout, .layout_count = 1};
    FileRecord record = {
        .file = "w.safetensors", .bytes = 9, .tensor_hash = (uint64_t[]){11}, .tensor_count = 1};
    FileTable table = {.files = &record, .count = 1};
    Manifest m = {.step = 3, .dp = 1, .sp = 1, .tp = 1, .state = "s", .state_bytes = 1};
    cr_assert_eq(manifest__write(scratch, &m, &table, &part), OK, "%s", err_message());

    char *text;
    size_t bytes;
    cr_assert_eq(file_read(scratch_path("manifest.msgpack"), &text, &bytes), OK);
    Pack *outer;
    cr_assert_eq(pack_open(&outer, text, bytes, "manifest"), OK);
    const void *body;
    uint32_t n;
    cr_assert_eq(pack_bytes(&body, &n, pack_root(outer), "manifest"), OK);
    // The names of tensors are for people.
    cr_assert_gt(pack_walk(body, n, read_manifest, " real tensors[0][0] ", " "), 100);
    pack_close(outer);
    free(text);
}
