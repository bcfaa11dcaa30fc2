// JSON: strict and place-naming reading, escapes and numbers that read back.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "temp.h"

static Status parse(Json **root, const char *text) {
    return json_open(root, text, strlen(text), "in.json");
}

Test(json, values_are_found_by_key_and_index) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"i\": -7, \"x\": 1.5, \"t\": true, \"n\": null, \"s\": \"h\\u00e9\", "
                        "\"a\": [1, [2]], \"o\": {\"k\": false}}"));
    cr_expect_eq(json_int(json_get(r, "i"), 0), -7);
    cr_expect_eq(json_number(json_get(r, "i"), 0), -7.0);
    cr_expect_eq(json_number(json_get(r, "x"), 0), 1.5);
    cr_expect(json_bool(json_get(r, "t"), false));
    cr_expect_not(json_bool(json_get(json_get(r, "o"), "k"), true));
    cr_expect(json_is_none(json_get(r, "n")));
    cr_expect_str_eq(json_text(json_get(r, "s"), ""), "h\xc3\xa9");
    cr_expect_eq(json_count(json_get(r, "a")), 2);
    cr_expect_eq(json_int(json_at(json_at(json_get(r, "a"), 1), 0), 0), 2);
    cr_expect_eq(json_count(r), 7);
    json_close(r);
}

Test(json, wrong_types_and_missing_values_give_the_fallback) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"s\": \"x\", \"x\": 1.5, \"i\": 1}"));
    Json *s = json_get(r, "s"), *x = json_get(r, "x");
    cr_expect_eq(json_int(s, 5), 5);
    cr_expect_eq(json_int(x, 5), 5);
    cr_expect_eq(json_number(s, 2.5), 2.5);
    cr_expect(json_bool(json_get(r, "i"), true));
    cr_expect_str_eq(json_text(x, "none"), "none");
    cr_expect_null(json_text(NULL, NULL));
    cr_expect_null(json_get(s, "k"));
    cr_expect_null(json_get(NULL, "k"));
    cr_expect_null(json_at(r, 0));
    cr_expect_null(json_at(NULL, 0));
    cr_expect_eq(json_count(s), 0);
    cr_expect_eq(json_count(NULL), 0);
    cr_expect_eq(json_text_bytes(NULL), 0);
    json_close(r);
    json_close(NULL);
}

Test(json, types_are_told_apart) {
    Json *r;
    ASSERT_OK(parse(&r, "[{}, [], \"\", 1, 1.0, 1.5, true, null, 1e300]"));
    // object array text int number bool none
    static const char *const EXPECTED[] = {"o", "a", "t", "in", "in", "n", "b", "0", "n"};
    for (size_t i = 0; i < 9; i++) {
        const Json *v = json_at(r, i);
        char seen[8] = "";
        if (json_is_object(v)) strcat(seen, "o");
        if (json_is_array(v)) strcat(seen, "a");
        if (json_is_text(v)) strcat(seen, "t");
        if (json_is_int(v)) strcat(seen, "i");
        if (json_is_number(v)) strcat(seen, "n");
        if (json_is_bool(v)) strcat(seen, "b");
        if (json_is_none(v)) strcat(seen, "0");
        cr_expect_str_eq(seen, EXPECTED[i], "value %zu: %s", i, seen);
    }
    cr_expect(json_is_none(NULL));
    cr_expect_not(json_is_object(NULL) || json_is_array(NULL) || json_is_number(NULL));
    json_close(r);
}

Test(json, mistakes_are_named_with_line_and_column) {
    Json *r;
    EXPECT_FAIL(parse(&r, "{\"a\": 1,\n  \"a\": 2}"), E_FORMAT, "in.json:2:");
    EXPECT_FAIL(parse(&r, "{\"a\": 1,\n \"b\" 2}"), E_FORMAT, "in.json:2:6");
    cr_expect_null(r);
    static const char *const BAD[] = {"",     " ",       "{",       "[1,]",        "{\"a\":1} x",
                                      "nul",  "{'a':1}", "[1] [2]", "\"\\ud800\"", "\"\xff\"",
                                      "[01]", "[+1]",    "[1e999]", "\"\n\"",      "{\"a\":1,}"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        cr_expect_eq(parse(&r, BAD[i]), E_FORMAT, "accepted: %s", BAD[i]);
        cr_expect_null(r);
    }
}

Test(json, hostile_nesting_is_refused) {
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH);
    Json *r;
    memset(text, '[', DEPTH);
    EXPECT_FAIL(json_open(&r, text, DEPTH, "deep"), E_FORMAT, "deep:1:");
    free(text);
}

Test(json, every_cut_of_a_valid_text_is_refused) {
    const char *text = "{\"a\": [1, -2.5e3, \"x\\u0000\\n\"], \"b\": {\"c\": null, \"d\": true}}";
    Json *r;
    for (size_t n = 0; n < strlen(text); n++) {
        char *cut = malloc(n + 1);  // of exactly this size, so that reading on is seen
        memcpy(cut, text, n);
        cr_expect_eq(json_open(&r, cut, n, "cut"), E_FORMAT, "%zu bytes", n);
        free(cut);
    }
    ASSERT_OK(parse(&r, text));
    json_close(r);
}

Test(json, real_files_are_read) {
    Json *r;
    ASSERT_OK(parse(&r, "\xEF\xBB\xBF[1]"));  // a byte order mark
    json_close(r);
    ASSERT_OK(parse(&r, "{\"model_max_length\": 1000000000000000019884624838656, \"n\": 7}"));
    cr_expect_eq(json_number(json_get(r, "model_max_length"), 0), 1e30);
    cr_expect_not(json_is_int(json_get(r, "model_max_length")));
    cr_expect_eq(json_int(json_get(r, "n"), 0), 7);
    json_close(r);
    ASSERT_OK(parse(&r, "\"a\\u0000b\""));  // a scalar at the top, a NUL inside
    cr_expect_eq(json_text_bytes(r), 3);
    cr_expect_eq(memcmp(json_text(r, ""), "a\0b", 3), 0);
    json_close(r);
    ASSERT_OK(parse(&r, "[9223372036854775807, -9223372036854775808]"));
    cr_expect_eq(json_int(json_at(r, 0), 0), INT64_MAX);
    cr_expect_eq(json_int(json_at(r, 1), 0), INT64_MIN);
    json_close(r);
}

Test(json, files_are_named_in_messages) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    Json *r;
    temp_open(dir);
    path_join(path, dir, "x.json");
    EXPECT_FAIL(json_open_file(&r, path), E_IO, "x.json: No such file");
    ASSERT_OK(file_write(path, "[1,\n2,,]", 8));
    EXPECT_FAIL(json_open_file(&r, path), E_FORMAT, "x.json:2:");
    ASSERT_OK(file_write(path, "[3]", 3));
    ASSERT_OK(json_open_file(&r, path));
    cr_expect_eq(json_int(json_at(r, 0), 0), 3);
    json_close(r);
    temp_close(dir);
}

static Status collect(const char *key, const Json *value, void *user) {
    if (json_is_none(value)) FAIL(E_FORMAT, "hint", "%s is null", key);
    strcat(user, key);
    return OK;
}

Test(json, members_come_in_the_files_order) {
    Json *r;
    char seen[16] = "";
    ASSERT_OK(parse(&r, "{\"z\": 1, \"a\": 2, \"m\": 3, \"0\": null, \"x\": 4}"));
    EXPECT_FAIL(json_each(r, collect, seen), E_FORMAT, "0 is null");
    cr_expect_str_eq(seen, "zam");
    EXPECT_OK(json_each(NULL, collect, seen));
    EXPECT_OK(json_each(json_get(r, "z"), collect, seen));
    cr_expect_str_eq(seen, "zam");
    json_close(r);
}

static void write_sample(JsonOut *w) {
    jsonout_open_object(w, NULL);
    jsonout_text(w, "t", "a\"b");
    jsonout_open_array(w, "a");
    jsonout_int(w, NULL, INT64_MIN);
    jsonout_none(w, NULL);
    jsonout_open_object(w, NULL);
    jsonout_close_object(w);
    jsonout_close_array(w);
    jsonout_open_array(w, "e");
    jsonout_close_array(w);
    jsonout_bool(w, "b", true);
    jsonout_number(w, "x", 0.1);
    jsonout_close_object(w);
}

Test(json, the_writer_minds_commas_and_nesting) {
    JsonOut w = {0};
    write_sample(&w);
    cr_expect_str_eq(w.text, "{\"t\":\"a\\\"b\",\"a\":[-9223372036854775808,null,{}],\"e\":[],"
                             "\"b\":true,\"x\":0.1}");
    cr_expect_eq(w.bytes, strlen(w.text));
    jsonout_free(&w);
    cr_expect_null(w.text);
    w.indent = 2;
    write_sample(&w);
    cr_expect_str_eq(w.text, "{\n  \"t\": \"a\\\"b\",\n  \"a\": [\n    -9223372036854775808,\n"
                             "    null,\n    {}\n  ],\n  \"e\": [],\n  \"b\": true,\n"
                             "  \"x\": 0.1\n}");
    jsonout_free(&w);
}

Test(json, values_at_the_top_become_lines) {
    JsonOut w = {0};
    jsonout_int(&w, NULL, 1);
    jsonout_open_array(&w, NULL);
    jsonout_close_array(&w);
    jsonout_text(&w, NULL, "");
    cr_expect_str_eq(w.text, "1\n[]\n\"\"");
    jsonout_free(&w);
}

Test(json, texts_of_all_bytes_become_valid_json) {
    char text[300];
    size_t n = 0;
    for (int c = 0; c < 256; c++) text[n++] = (char)c;
    memcpy(text + n, "\xe2\x82\xac\xf0\x9f\x98\x80\xc0\x80\xed\xa0\x80\xe2\x82", 14);
    n += 14;
    JsonOut w = {0};
    jsonout_text_n(&w, NULL, text, n);
    Json *r;
    ASSERT_OK(json_open(&r, w.text, w.bytes, "all"));
    const char *back = json_text(r, "");
    cr_expect_eq(memcmp(back, text, 128), 0);  // ASCII as it was, NUL included
    // Bytes that are no UTF-8 became U+FFFD; the euro sign and the face between them stayed.
    cr_expect_eq(memcmp(back + 128, "\xef\xbf\xbd", 3), 0);
    cr_expect(strstr(back + 128, "\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd") != NULL);
    cr_expect_eq(json_text_bytes(r), 128 + 128 * 3 + 7 + 7 * 3);
    json_close(r);
    jsonout_free(&w);
}

Test(json, numbers_read_back_to_the_same_bits) {
    const double values[] = {0.0,
                             -0.0,
                             1.0,
                             0.1,
                             1.0 / 3,
                             1e22,
                             1e-300,
                             5e-324,
                             -2.5,
                             123456789.25,
                             9007199254740993.0,
                             1.7976931348623157e308,
                             2.2e-308,
                             1e6,
                             0.3 - 0.1};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        JsonOut w = {0};
        Json *r;
        jsonout_number(&w, NULL, values[i]);
        ASSERT_OK(json_open(&r, w.text, w.bytes, "number"));
        double back = json_number(r, NAN);
        cr_expect_eq(memcmp(&back, &values[i], sizeof back) != 0 && back != 0, 0, "%s", w.text);
        json_close(r);
        jsonout_free(&w);
    }
    JsonOut w = {0};
    jsonout_number(&w, NULL, 0.02);
    jsonout_number(&w, NULL, NAN);
    jsonout_number(&w, NULL, -INFINITY);
    cr_expect_str_eq(w.text, "0.02\nnull\nnull");
    jsonout_free(&w);
}
