// Ids of config.json and generation_config.json: one or a list, absent, null, beyond the
// vocabulary; what is written is read back.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES];

static void dir_open(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_ids_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}
static void dir_close(void) {
    cr_assert_eq(tree_remove(dir), OK);
}
TestSuite(hf_ids, .init = dir_open, .fini = dir_close);

static void put(const char *name, const char *text) {
    char path[PATH_BYTES];
    path_join(path, dir, name);
    if (text != NULL)
        cr_assert_eq(file_write(path, text, strlen(text)), OK);
    else
        remove(path);
}

// A Llama or a TransNormer with these members, and generation_config.json when it is not NULL.
static Status read_with(ModelConfig *m, bool llama, const char *members, const char *generation) {
    char text[1024], path[PATH_BYTES];
    if (llama)
        snprintf(text, sizeof text,
                 "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":12,\"num_hidden_"
                 "layers\":1,"
                 "\"num_attention_heads\":2,\"intermediate_size\":20%s}",
                 members);
    else
        snprintf(
            text, sizeof text,
            "{\"model_type\":\"transnormer\",\"vocab_size\":64,\"decoder_embed_dim\":12,"
            "\"decoder_layers\":1,\"decoder_attention_heads\":2,\"linear_use_lrpe_list\":[1]%s}",
            members);
    put("config.json", text);
    put("generation_config.json", generation);
    path_join(path, dir, "config.json");
    memset(m, 0xA5, sizeof *m);  // nothing is left of what was there
    m->block = 0;
    return model_config_read_hf(m, path);
}

// ends: the ids in order, ended by -1.
static void expect_ends(bool llama, const char *members, const char *generation, const int *ends) {
    ModelConfig m, back;
    char path[PATH_BYTES];
    cr_assert_eq(read_with(&m, llama, members, generation), OK, "%s: %s", members, err_message());
    cr_expect_eq(m.eos_id, ends[0], "%s, %s: %d", members, generation, m.eos_id);
    int count = 0;
    while (ends[0] >= 0 && ends[count + 1] >= 0) count++;
    cr_assert_eq(m.more_eos_count, count, "%s, %s", members, generation);
    for (int i = 0; i < count; i++) cr_expect_eq(m.more_eos[i], ends[i + 1]);
    for (int id = -1; id < 64; id++) {
        bool listed = false;
        for (int i = 0; ends[i] >= 0; i++) listed = listed || ends[i] == id;
        cr_expect_eq(model_config_ends(&m, id), listed, "%d", id);
    }

    // What is written needs no second file.
    char *text = model_config_write_hf(&m, "float32");
    put("config.json", text);
    put("generation_config.json", NULL);
    path_join(path, dir, "config.json");
    cr_assert_eq(model_config_read_hf(&back, path), OK, "%s", err_message());
    cr_expect(back.eos_id == m.eos_id && back.more_eos_count == m.more_eos_count);
    cr_expect_arr_eq(back.more_eos, m.more_eos, (size_t)count * sizeof(int));
    cr_expect(back.pad_id == m.pad_id && back.bos_id == m.bos_id);
    free(text);
}
#define ENDS(...) ((const int[]){__VA_ARGS__, -1})

Test(hf_ids, one_or_several_ids_end_a_text) {
    expect_ends(true, ",\"eos_token_id\":7", NULL, ENDS(7));
    expect_ends(true, ",\"eos_token_id\":0", NULL, ENDS(0));
    expect_ends(true, ",\"eos_token_id\":[63]", NULL, ENDS(63));
    expect_ends(true, ",\"eos_token_id\":[5,0,9]", NULL, ENDS(5, 0, 9));
    expect_ends(false, ",\"eos_token_id\":[5,5,4,5]", NULL, ENDS(5, 4));
    expect_ends(true, ",\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]", NULL,
                ENDS(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

Test(hf_ids, absent_is_what_the_reference_class_assumes_and_null_is_none) {
    expect_ends(true, "", NULL, ENDS(-1));
    expect_ends(false, "", NULL, ENDS(2));
    expect_ends(false, ",\"eos_token_id\":null", NULL, ENDS(-1));
    expect_ends(true, ",\"eos_token_id\":-1", NULL, ENDS(-1));
}

Test(hf_ids, the_generation_file_adds_ids_and_fills_a_gap) {
    expect_ends(true, ",\"eos_token_id\":7", "{}", ENDS(7));
    expect_ends(true, ",\"eos_token_id\":7", "{\"eos_token_id\":7}", ENDS(7));
    expect_ends(true, ",\"eos_token_id\":7", "{\"eos_token_id\":[9,7,8]}", ENDS(7, 9, 8));
    expect_ends(true, "", "{\"eos_token_id\":[9,8],\"max_length\":3}", ENDS(9, 8));
    expect_ends(true, ",\"eos_token_id\":null", "{\"eos_token_id\":4}", ENDS(4));
    expect_ends(false, "", "{\"eos_token_id\":4}", ENDS(4));  // instead of what would be assumed
    expect_ends(false, "", "{\"eos_token_id\":null}", ENDS(2));
}

static void expect_refused(const char *members, const char *generation, const char *part) {
    ModelConfig m;
    cr_assert_eq(read_with(&m, true, members, generation), E_FORMAT, "%s, %s", members, generation);
    cr_assert_not_null(strstr(err_message(), part), "'%s' is not in: %s", part, err_message());
    cr_assert_not_null(
        strstr(err_message(), generation == NULL ? "/config.json" : "/generation_config.json"),
        "%s", err_message());
    cr_assert(err_hint()[0] != '\0');
}

Test(hf_ids, what_is_no_id_of_the_vocabulary_is_refused_with_its_place) {
    const char *bad[][2] = {{"64", " = 64"},
                            {"-2", " = -2"},
                            {"\"7\"", " = \"7\""},
                            {"1.5", " = 1.5"},
                            {"true", " = true"},
                            {"{}", "eos_token_id = "},
                            {"[]", "a list with an id"},
                            {"[7,64]", "[1] = 64"},
                            {"[-1]", "[0] = -1"},
                            {"[7,null]", "[1] = null"},
                            {"[[7]]", "eos_token_id[0] = "},
                            {"4294967303", " = 4294967303"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char members[128], generation[128];
        snprintf(members, sizeof members, ",\"eos_token_id\":%s", bad[i][0]);
        snprintf(generation, sizeof generation, "{%s}", members + 1);
        expect_refused(members, NULL, bad[i][1]);
        expect_refused("", generation, bad[i][1]);
    }
    expect_refused(",\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", NULL,
                   "at most 16");
    expect_refused(",\"bos_token_id\":[1]", NULL, "bos_token_id");
    expect_refused(",\"pad_token_id\":64", NULL, "pad_token_id = 64");
    expect_refused("", "[]", "an object is expected");
    expect_refused("", "{\"eos_token_id\":", "");
}
