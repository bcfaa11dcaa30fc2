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

static JsonAt top_of(const Json *root) {
    return json_top(root, "in.json", "a hint");
}

// The values of a document's members, which must be there.
static int64_t int_of(const Json *root, const char *key) {
    JsonAt top = top_of(root);
    int64_t out = 0;
    ASSERT_OK(json_need_int(&out, &top, key));
    return out;
}

static int64_t int_at(const Json *root, size_t index) {
    JsonAt top = top_of(root), v;
    int64_t out = 0;
    ASSERT_OK(json_item(&v, &top, index));
    ASSERT_OK(json_int(&out, &v));
    return out;
}

static double number_of(const Json *root, const char *key) {
    JsonAt top = top_of(root);
    double out = NAN;
    ASSERT_OK(json_opt_number(&out, &top, key));
    return out;
}

Test(json, values_are_found_by_key_and_index) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"i\": -7, \"x\": 1.5, \"t\": true, \"n\": null, \"s\": \"h\\u00e9\", "
                        "\"a\": [1, [2]], \"o\": {\"k\": false}, \"w\": 3.0}"));
    JsonAt top = top_of(r), a, o, inner;
    bool flag = false;
    const char *text = NULL;
    cr_expect_eq(int_of(r, "i"), -7);
    cr_expect_eq(int_of(r, "w"), 3);
    cr_expect_eq(number_of(r, "i"), -7.0);
    cr_expect_eq(number_of(r, "x"), 1.5);
    EXPECT_OK(json_opt_bool(&flag, &top, "t"));
    cr_expect(flag);
    EXPECT_OK(json_need_object(&o, &top, "o"));
    EXPECT_OK(json_opt_bool(&flag, &o, "k"));
    cr_expect_not(flag);
    EXPECT_OK(json_need_text(&text, &top, "s"));
    cr_expect_str_eq(text, "h\xc3\xa9");
    EXPECT_OK(json_need_list(&a, &top, "a"));
    cr_expect_eq(json_count(&a), 2);
    EXPECT_OK(json_item(&inner, &a, 1));
    cr_expect_eq(int_at(inner.value, 0), 2);
    cr_expect_eq(json_count(&top), 8);
    json_close(r);
    json_close(NULL);
}

Test(json, null_and_absence_leave_the_default) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"n\": null}"));
    JsonAt top = top_of(r), list_at;
    static const char *const KEYS[] = {"n", "none"};
    for (int i = 0; i < 2; i++) {
        int64_t whole = 5;
        double number = 2.5;
        bool flag = true;
        const char *text = "kept";
        EXPECT_OK(json_opt_int(&whole, &top, KEYS[i]));
        EXPECT_OK(json_opt_number(&number, &top, KEYS[i]));
        EXPECT_OK(json_opt_bool(&flag, &top, KEYS[i]));
        EXPECT_OK(json_opt_text(&text, &top, KEYS[i]));
        cr_expect(whole == 5 && number == 2.5 && flag);
        cr_expect_str_eq(text, "kept");
        EXPECT_FAIL(json_need_int(&whole, &top, KEYS[i]), E_FORMAT, KEYS[i]);
        EXPECT_FAIL(json_need_text(&text, &top, KEYS[i]), E_FORMAT, KEYS[i]);
        EXPECT_FAIL(json_need_list(&list_at, &top, KEYS[i]), E_FORMAT, KEYS[i]);
    }
    json_close(r);
}

// A getter and the kinds of values it takes: b n i t l o for bool, fraction, integer, text, list,
// object.
static Status get_as(char getter, const JsonAt *top, const char *key) {
    int64_t whole;
    double number;
    bool flag;
    const char *text;
    JsonAt v;
    switch (getter) {
    case 'i':
        return json_opt_int(&whole, top, key);
    case 'n':
        return json_opt_number(&number, top, key);
    case 'b':
        return json_opt_bool(&flag, top, key);
    case 't':
        return json_opt_text(&text, top, key);
    case 'l':
        return json_need_list(&v, top, key);
    default:
        return json_need_object(&v, top, key);
    }
}

Test(json, no_getter_takes_another_type) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"b\": true, \"n\": 1.5, \"i\": 4, \"t\": \"4\", \"l\": [4], \"o\": {}, "
                        "\"big\": 1e300}"));
    static const struct {
        char getter;
        const char *takes;
    } GETTERS[] = {{'i', "i"}, {'n', "in"}, {'b', "b"}, {'t', "t"}, {'l', "l"}, {'o', "o"}};
    JsonAt top = top_of(r);
    for (size_t g = 0; g < sizeof GETTERS / sizeof GETTERS[0]; g++) {
        for (const char *c = "bnitlo"; *c != '\0'; c++) {
            char key[2] = {*c, '\0'}, message[16];
            snprintf(message, sizeof message, "in.json: %s = ", key);
            if (strchr(GETTERS[g].takes, *c) != NULL)
                EXPECT_OK(get_as(GETTERS[g].getter, &top, key));
            else
                EXPECT_FAIL(get_as(GETTERS[g].getter, &top, key), E_FORMAT, message);
        }
    }
    EXPECT_FAIL(get_as('i', &top, "big"), E_FORMAT, "a whole number is expected");
    // Nor is something that is no object an empty one.
    JsonAt t;
    EXPECT_OK(json_member(&t, &top, "t"));
    EXPECT_FAIL(get_as('i', &t, "k"), E_FORMAT, "in.json: t = \"4\": an object is expected");
    EXPECT_FAIL(json_item(&t, &t, 0), E_FORMAT, "a list is expected");
    json_close(r);
}

Test(json, places_are_named) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"a\": [{\"b c\": {\"d\": 7}}], \"\": 1, \"m\\ny\": \"\\u001b[1m\"}"));
    JsonAt top = top_of(r), a, first, b, d, odd;
    EXPECT_OK(json_need_list(&a, &top, "a"));
    EXPECT_OK(json_item(&first, &a, 0));
    EXPECT_OK(json_need_object(&b, &first, "b c"));
    EXPECT_OK(json_member(&d, &b, "d"));
    cr_expect_eq(json_refuse(&d, "%s than %d", "more", 7), E_FORMAT);
    cr_expect_str_eq(err_message(), "in.json: a[0][\"b c\"].d = 7: more than 7 is expected");
    cr_expect_str_eq(err_hint(), "a hint");
    EXPECT_OK(json_member(&odd, &b, "gone"));
    EXPECT_FAIL(json_refuse(&odd, "it"), E_FORMAT, "a[0][\"b c\"].gone is missing");
    EXPECT_OK(json_member(&odd, &top, ""));
    EXPECT_FAIL(json_refuse(&odd, "it"), E_FORMAT, "in.json: $[\"\"] = 1: it");
    EXPECT_OK(json_member(&odd, &top, "m\ny"));  // nothing of a file reaches a terminal as it is
    EXPECT_FAIL(json_refuse(&odd, "it"), E_FORMAT, "$[\"m\\ny\"] = \"\\u001b[1m\": it");
    EXPECT_FAIL(json_refuse(&top, "it"), E_FORMAT, "in.json: $ = an object: it");
    json_close(r);
}

Test(json, texts_with_nul_are_no_c_strings) {
    Json *r;
    ASSERT_OK(parse(&r, "{\"t\": \"llama\\u0000x\"}"));
    JsonAt top = top_of(r), v;
    const char *text;
    size_t bytes;
    EXPECT_FAIL(json_opt_text(&text, &top, "t"), E_FORMAT, "without NUL");
    EXPECT_OK(json_member(&v, &top, "t"));
    EXPECT_OK(json_bytes(&text, &bytes, &v));
    cr_expect(bytes == 7 && memcmp(text, "llama\0x", 7) == 0);
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
    cr_expect_eq(number_of(r, "model_max_length"), 1e30);
    cr_expect_eq(int_of(r, "n"), 7);
    json_close(r);
    ASSERT_OK(parse(&r, "\"a\\u0000b\""));  // a scalar at the top, a NUL inside
    JsonAt top = top_of(r);
    const char *text;
    size_t bytes;
    EXPECT_OK(json_bytes(&text, &bytes, &top));
    cr_expect(bytes == 3 && memcmp(text, "a\0b", 3) == 0);
    json_close(r);
    ASSERT_OK(parse(&r, "[9223372036854775807, -9223372036854775808]"));
    cr_expect_eq(int_at(r, 0), INT64_MAX);
    cr_expect_eq(int_at(r, 1), INT64_MIN);
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
    cr_expect_eq(int_at(r, 0), 3);
    json_close(r);
    temp_close(dir);
}

static Status collect(const JsonAt *member, void *user) {
    if (json_kind(member) == J_NONE) return json_refuse(member, "something");
    strcat(user, member->key);
    return OK;
}

Test(json, members_come_in_the_files_order) {
    Json *r;
    char seen[16] = "";
    ASSERT_OK(parse(&r, "{\"z\": 1, \"a\": 2, \"m\": 3, \"0\": null, \"x\": 4}"));
    JsonAt top = top_of(r), z;
    EXPECT_FAIL(json_each(&top, collect, seen), E_FORMAT, "0 = null: something");
    cr_expect_str_eq(seen, "zam");
    EXPECT_OK(json_member(&z, &top, "z"));
    EXPECT_FAIL(json_each(&z, collect, seen), E_FORMAT, "z = 1: an object is expected");
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
    JsonAt top = top_of(r);
    const char *back;
    size_t bytes;
    ASSERT_OK(json_bytes(&back, &bytes, &top));
    cr_expect_eq(memcmp(back, text, 128), 0);  // ASCII as it was, NUL included
    // Bytes that are no UTF-8 became U+FFFD; the euro sign and the face between them stayed.
    cr_expect_eq(memcmp(back + 128, "\xef\xbf\xbd", 3), 0);
    cr_expect(strstr(back + 128, "\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd") != NULL);
    cr_expect_eq(bytes, 128 + 128 * 3 + 7 + 7 * 3);
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
        JsonAt top = top_of(r);
        double back = NAN;
        EXPECT_OK(json_number(&back, &top));
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
