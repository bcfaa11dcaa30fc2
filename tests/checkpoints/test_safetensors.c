// Round trips, and files that lie.
#include <fcntl.h>
#include <math.h>

#include "checkpoints/internal.h"
#include "tests/checkpoints/scratch.h"

TestSuite(safetensors, .init = scratch_open, .fini = scratch_close);

enum { HEADER_CAPACITY = 4096, DATA_CAPACITY = 256 };

// A file with this header text and `data_bytes` counted bytes behind it.
static void write_raw(const char *name, const char *header, size_t data_bytes) {
    char file[8 + HEADER_CAPACITY + DATA_CAPACITY];
    uint64_t length = strlen(header);
    cr_assert(length <= HEADER_CAPACITY && data_bytes <= DATA_CAPACITY);
    memcpy(file, &length, sizeof length);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) file[8 + length + i] = (char)i;
    scratch_write(name, file, 8 + length + data_bytes);
}

// Opening fails with E_FORMAT, and the message tells file and cause.
static void expect_refused(const char *header, size_t data_bytes, const char *cause) {
    write_raw("bad", header, data_bytes);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("bad")), E_FORMAT, "accepted: %s", header);
    cr_assert_null(f);
    cr_assert_not_null(strstr(err_message(), scratch_path("bad")), "%s", err_message());
    cr_assert_not_null(strstr(err_message(), cause), "'%s' is not in: %s", cause, err_message());
    cr_assert(err_hint()[0] != '\0');
}

static void expect_inside(const StFile *f, size_t data_bytes) {
    uint64_t sum = 0;
    for (int i = 0; i < st_count(f); i++) {
        const StTensor *t = st_tensor(f, i);
        cr_assert(t->begin <= data_bytes && t->bytes <= data_bytes - t->begin);
        cr_assert_eq(st_find(f, t->name), t);
        sum +=
            hash64(st_data(f, t), (size_t)t->bytes);  // touches every byte: ASan and the MMU watch
    }
    cr_assert(sum != 1);
}

static const real WEIGHTS[6] = {1, (real)-2.5, (real)0.1, 0, (real)1e-41, 3};
static const int64_t IDS[3] = {-1, 0, INT64_MAX};

static void write_small(const char *name) {
    StSource src[] = {
        {{.name = "half", .dtype = DTYPE_BF16, .ndim = 1, .dim = {3}}, WEIGHTS},
        {{.name = "ids", .dtype = DTYPE_I64, .ndim = 1, .dim = {3}}, IDS},
        {{.name = "matrix", .dtype = DTYPE_F32, .ndim = 2, .dim = {2, 3}}, WEIGHTS},
        {{.name = "empty", .dtype = DTYPE_F32, .ndim = 2, .dim = {0, 7}}, NULL},
        {{.name = "scalar", .dtype = DTYPE_F16, .ndim = 0}, WEIGHTS + 1},
        {{.name = "wide", .dtype = DTYPE_F64, .ndim = 1, .dim = {6}}, WEIGHTS},
    };
    cr_assert_eq(st_write(scratch_path(name), src, 6), OK, "%s", err_message());
}

Test(safetensors, what_is_written_is_read_back) {
    write_small("a");
    cr_assert(!path_exists(scratch_path("a" DRAFT_SUFFIX)));
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("a")), OK, "%s", err_message());
    cr_assert_eq(st_count(f), 6);
    cr_assert_null(st_find(f, "matri"));
    const StTensor *t = st_find(f, "matrix");  // unaligned: 6 + 24 bytes lie before it
    cr_assert(t != NULL && t->dtype == DTYPE_F32 && t->ndim == 2 && t->dim[0] == 2 &&
              t->dim[1] == 3);
    real got[6];
    cr_assert_eq(st_read_reals(f, t, got, 1, 4), OK);
    for (int i = 0; i < 4; i++) cr_assert_eq((float)got[i], (float)WEIGHTS[1 + i]);
    cr_assert_eq(st_read_reals(f, st_find(f, "wide"), got, 0, 6), OK);
    cr_assert_arr_eq(got, WEIGHTS, sizeof WEIGHTS);
    cr_assert_eq(st_read_reals(f, st_find(f, "scalar"), got, 0, 1), OK);
    cr_assert_eq(got[0], (real)-2.5);
    cr_assert_eq(st_read_reals(f, st_find(f, "empty"), got, 0, 0), OK);
    cr_assert_arr_eq(st_data(f, st_find(f, "ids")), IDS, sizeof IDS);
    cr_assert_eq(st_read_reals(f, st_find(f, "ids"), got, 0, 1), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "ids"));
    st_close(f);
}

static void expect_diverged(Status st, const char *cause) {
    cr_assert_eq(st, E_DIVERGED, "%s", status_name(st));
    cr_assert_not_null(strstr(err_message(), cause), "'%s' is not in: %s", cause, err_message());
    cr_assert(err_hint()[0] != '\0');
}

// One value of a tensor of 2 x 3 in a file of doubles.
static StFile *file_with(uint64_t element, double value) {
    const char header[] = "{\"w\":{\"dtype\":\"F64\",\"shape\":[2,3],\"data_offsets\":[0,48]}}";
    char file[8 + sizeof header - 1 + 48] = {0};
    uint64_t length = sizeof header - 1;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length + 8 * element, &value, 8);
    scratch_write("w", file, sizeof file);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("w")), OK, "%s", err_message());
    return f;
}

Test(safetensors, values_that_are_not_finite_are_refused_with_their_place) {
    const struct {
        double value;
        const char *cause;
    } bad[] = {{NAN, "w: tensor 'w', element [1, 2] is not finite (nan)"},
               {INFINITY, "element [1, 2] is not finite (inf)"},
               {-INFINITY, "element [1, 2] is not finite (-inf)"},
               {1e300, "element [1, 2]: 1e+300 is out of the range of F32"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        StFile *f = file_with(5, bad[i].value);
        const StTensor *t = st_find(f, "w");
        real got[6];
        bool fits = sizeof(real) == 8 && isfinite(bad[i].value);
        cr_assert_eq(st_read_reals(f, t, got, 0, 5), OK);
        cr_assert_eq(st_peek_reals(f, t, got, 0, 6), OK);
        if (!fits) expect_diverged(st_read_reals(f, t, got, 4, 2), bad[i].cause);
        if (fits) cr_assert_eq(st_read_reals(f, t, got, 4, 2), OK);
        if (isfinite(bad[i].value)) cr_assert_eq(tensor__check(f, t), OK);  // in its own type it is
        if (!isfinite(bad[i].value)) expect_diverged(tensor__check(f, t), bad[i].cause);
        st_close(f);
    }
}

Test(safetensors, values_that_are_not_finite_are_not_written) {
    const real bad[] = {1, (real)NAN, (real)70000, (real)-INFINITY};
    StSource nan = {{.name = "w", .dtype = DTYPE_F32, .ndim = 1, .dim = {2}}, bad};
    StSource wide = {{.name = "w", .dtype = DTYPE_F16, .ndim = 3, .dim = {1, 1, 1}}, bad + 2};
    StSource two[] = {{{.name = "v", .dtype = DTYPE_F16, .ndim = 1, .dim = {1}}, bad},
                      {{.name = "w", .dtype = DTYPE_BF16, .ndim = 1, .dim = {2}}, bad + 2}};
    write_small("kept");
    uint64_t bytes;
    expect_diverged(st_write(scratch_path("a"), &nan, 1),
                    "a: tensor 'w', element [1] is not finite (nan)");
    expect_diverged(st_write(scratch_path("a"), &wide, 1),
                    "element [0, 0, 0]: 70000 is out of the range of F16");
    expect_diverged(st_write(scratch_path("kept"), two, 2), "element [1] is not finite (-inf)");
    cr_assert(!path_exists(scratch_path("a")) && !path_exists(scratch_path("a.tmp")));
    cr_assert(file_size(scratch_path("kept"), &bytes) == OK && bytes > 300);
    wide.t.dtype = DTYPE_BF16;
    cr_assert_eq(st_write(scratch_path("a"), &wide, 1), OK, "%s", err_message());
}

Test(safetensors, the_bytes_are_those_of_the_format) {
    StSource src = {{.name = "w", .dtype = DTYPE_F32, .ndim = 1, .dim = {2}}, WEIGHTS};
    cr_assert_eq(st_write(scratch_path("a"), &src, 1), OK);
    char *text;
    size_t bytes;
    cr_assert_eq(file_read(scratch_path("a"), &text, &bytes), OK);
    const char want[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                        "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    uint64_t length;
    memcpy(&length, text, 8);
    cr_assert_eq(length % 8, 0);
    cr_assert_eq(bytes, 8 + length + 8);
    cr_assert_eq(memcmp(text + 8, want, strlen(want)), 0, "%.*s", (int)length, text + 8);
    for (uint64_t i = strlen(want); i < length; i++) cr_assert_eq(text[8 + i], ' ');
    const float data[2] = {(float)WEIGHTS[0], (float)WEIGHTS[1]};
    cr_assert_eq(memcmp(text + 8 + length, data, sizeof data), 0);
    free(text);
}

Test(safetensors, the_same_tensors_give_the_same_bytes) {
    write_small("a");
    write_small("b");
    char *a, *b;
    size_t na, nb;
    cr_assert_eq(file_read(scratch_path("a"), &a, &na), OK);
    cr_assert_eq(file_read(scratch_path("b"), &b, &nb), OK);
    cr_assert(na == nb && memcmp(a, b, na) == 0);
    free(a);
    free(b);
}

Test(safetensors, a_file_without_tensors_is_legal) {
    cr_assert_eq(st_write(scratch_path("a"), NULL, 0), OK);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("a")), OK, "%s", err_message());
    cr_assert_eq(st_count(f), 0);
    cr_assert_null(st_find(f, "x"));
    st_close(f);
}

Test(safetensors, tensors_may_be_listed_in_any_order) {
    write_raw("a",
              "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
              "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ",
              8);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("a")), OK, "%s", err_message());
    cr_assert_str_eq(st_tensor(f, 0)->name, "a");
    st_close(f);
}

Test(safetensors, a_file_cut_anywhere_is_refused) {
    write_small("a");
    char *text;
    size_t bytes;
    cr_assert_eq(file_read(scratch_path("a"), &text, &bytes), OK);
    for (size_t n = 0; n < bytes; n++) {
        FILE *out = fopen(scratch_path("cut"), "wb");
        cr_assert(out != NULL && fwrite(text, 1, n, out) == n && fclose(out) == 0);
        StFile *f;
        cr_assert_eq(st_open(&f, scratch_path("cut")), E_FORMAT, "%zu of %zu bytes are accepted", n,
                     bytes);
    }
    scratch_write("long", text, bytes);
    cr_assert_eq(file_append_lines(scratch_path("long"), "x", 1), OK);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("long")), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "after the last tensor"), "%s", err_message());
    free(text);
}

// Each byte of length and header becomes each of some others: refused, or all tensors lie inside.
Test(safetensors, a_changed_header_never_leads_outside) {
    write_small("a");
    char *text;
    size_t bytes;
    cr_assert_eq(file_read(scratch_path("a"), &text, &bytes), OK);
    uint64_t length;
    memcpy(&length, text, 8);
    int accepted = 0, refused = 0;
    for (size_t at = 0; at < 8 + length; at++) {
        const char changes[] = {
            (char)(text[at] ^ 1), (char)(text[at] ^ 0x80), (char)~text[at], '9', '-', '"'};
        for (size_t c = 0; c < sizeof changes; c++) {
            char kept = text[at];
            text[at] = changes[c];
            FILE *out = fopen(scratch_path("changed"), "wb");
            cr_assert(out != NULL && fwrite(text, 1, bytes, out) == bytes && fclose(out) == 0);
            text[at] = kept;
            StFile *f;
            Status st = st_open(&f, scratch_path("changed"));
            cr_assert(st == OK || st == E_FORMAT);
            if (st == OK) expect_inside(f, bytes - 8 - (size_t)length);
            accepted += st == OK;
            refused += st != OK;
            st_close(f);
        }
    }
    cr_assert(accepted > 0 && refused > 1000, "%d accepted, %d refused", accepted, refused);
    free(text);
}

#define ENTRY(dtype, shape, offsets)                                                               \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

Test(safetensors, offsets_must_fit_shape_and_file) {
    expect_refused(ENTRY("F32", "[2]", "[0,4]"), 8, "needs 8 bytes");
    expect_refused(ENTRY("F32", "[2]", "[0,8]"), 4, "do not lie in");
    expect_refused(ENTRY("F32", "[2]", "[8,0]"), 8, "do not lie in");
    expect_refused(ENTRY("F32", "[2]", "[-8,0]"), 8, "do not lie in");
    expect_refused(ENTRY("F32", "[2]", "[0,9223372036854775807]"), 8, "do not lie in");
    expect_refused(ENTRY("F32", "[2]", "[0,99999999999999999999]"), 8, "a");
    expect_refused(ENTRY("F32", "[2]", "[0,8,8]"), 8, "pair");
    expect_refused(ENTRY("F32", "[2]", "[0,\"8\"]"), 8, "data_offsets");
    expect_refused(ENTRY("F32", "[2]", "8"), 8, "data_offsets");
    expect_refused(ENTRY("F32", "[1]", "[0,4]"), 8, "after the last tensor");
    expect_refused("{}", 8, "after the last tensor");
}

Test(safetensors, shapes_are_counts_whose_product_fits) {
    expect_refused(ENTRY("F32", "[-1]", "[0,0]"), 0, "shape");
    expect_refused(ENTRY("F32", "[1.5]", "[0,8]"), 8, "shape");
    expect_refused(ENTRY("F32", "\"2\"", "[0,8]"), 8, "shape");
    expect_refused(ENTRY("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflows");
    expect_refused(ENTRY("F32", "[4611686018427387904]", "[0,0]"), 0, "overflows");
    expect_refused(ENTRY("F32", "[4611686018427387904,4,0]", "[0,0]"), 0, "overflows");
    expect_refused(ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "9 dimensions");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is missing");
    expect_refused("{\"a\":7}", 0, "a = 7: an object");
}

Test(safetensors, unknown_dtypes_are_named) {
    expect_refused(ENTRY("F8_E4M3", "[4]", "[0,4]"), 4, "F8_E4M3");
    expect_refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype");
}

Test(safetensors, overlaps_and_holes_are_refused) {
#define TWO(offsets)                                                                               \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"                             \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" offsets "}}"
    expect_refused(TWO("[4,12]"), 12, "overlaps");
    expect_refused(TWO("[0,8]"), 8, "overlaps");
    expect_refused(TWO("[12,20]"), 20, "hole of 4 bytes");
    expect_refused(ENTRY("F32", "[1]", "[4,8]"), 8, "hole of 4 bytes");
}

Test(safetensors, names_are_unique_short_and_printable) {
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
                   "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                   0, "duplicate");
    char header[HEADER_CAPACITY], name[201];
    memset(name, 'n', 200);
    name[200] = '\0';
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    expect_refused(header, 0, "200 bytes");
    expect_refused("{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
                   "control");
}

Test(safetensors, the_header_is_one_json_object) {
    expect_refused("[]", 0, "does not start with '{'");
    expect_refused("", 0, "does not start with '{'");
    expect_refused(" {}", 0, "does not start with '{'");
    expect_refused("{} x", 0, "bad:1");
    expect_refused("{\"__metadata__\":[]}", 0, "__metadata__");
    expect_refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
    char file[16] = {0};
    memset(file, 0xff, 8);  // a header of 2^64 - 1 bytes
    scratch_write("huge", file, sizeof file);
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("huge")), E_FORMAT);
    cr_assert_eq(st_open(&f, scratch_path("missing")), E_IO);
    cr_assert_eq(st_open(&f, scratch), E_IO);
}

Test(safetensors, a_failed_write_leaves_the_old_file) {
    write_small("a");
    cr_assert_eq(dir_make(scratch_path("a" DRAFT_SUFFIX)), OK);  // in the way of the temporary file
    StSource src = {{.name = "w", .dtype = DTYPE_F32, .ndim = 1, .dim = {2}}, WEIGHTS};
    cr_assert_eq(st_write(scratch_path("a"), &src, 1), E_IO);
    cr_assert(err_hint()[0] != '\0');
    StFile *f;
    cr_assert_eq(st_open(&f, scratch_path("a")), OK);
    cr_assert_eq(st_count(f), 6);
    st_close(f);
    cr_assert_eq(st_write(scratch_path("a/none/b"), &src, 1), E_IO);
}

Test(safetensors, a_full_disk_is_reported) {
    if (!path_exists("/dev/full")) cr_skip_test("no /dev/full here");
    StTensor t = {.name = "w", .dtype = DTYPE_REAL, .ndim = 1, .dim = {6}};
    StWriter w;
    int fd = open("/dev/full", O_WRONLY);
    cr_assert_eq(stwriter__begin(&w, fd, "/dev/full", &t, 1), E_IO);
    cr_assert_not_null(strstr(err_message(), "/dev/full"));
    cr_assert_not_null(strstr(err_hint(), "free"), "%s", err_hint());
    stwriter__close(&w);
}
