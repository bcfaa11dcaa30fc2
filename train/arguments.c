// Command-line words: options, key=value settings, positional words.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/path.h"
#include "parallel/agree.h"
#include "train/commands.h"

// The option named by the first `length` characters of `name`; NULL when there is none.
static const Option *option_find(const Option *options, int count, const char *name,
                                 size_t length) {
    for (int i = 0; i < count; i++) {
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

// Names of files and directories are put together in buffers of PATH_BYTES.
static Status check_path(const char *path) {
    enum { LONGEST = PATH_BYTES / 2 };
    if (strlen(path) <= LONGEST) return OK;
    FAIL(E_USAGE, "use a shorter path", "`%.40s...` has more than %d bytes", path, LONGEST);
}

static bool is_path(const Option *o) {
    return strcmp(o->value, "DIR") == 0 || strcmp(o->value, "FILE") == 0;
}

// Handles argv[*i], which begins with "--"; may consume the next word as its value.
static Status take_option(const Option *options, int count, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t length = equals == NULL ? strlen(name) : (size_t)(equals - name);
    const Option *o = option_find(options, count, name, length);
    if (o == NULL) {
        FAIL(E_USAGE, "see --help of this command", "unknown option `%s`", argv[*i]);
    }
    if (o->value == NULL) {
        if (equals != NULL) FAIL(E_USAGE, "write it without =", "--%s takes no value", o->name);
        *o->text = "1";
        return OK;
    }
    if (equals == NULL && *i + 1 >= argc)
        FAIL(E_USAGE, "see --help of this command", "--%s needs %s", o->name, o->value);
    *o->text = equals != NULL ? equals + 1 : argv[++*i];
    return is_path(o) ? check_path(*o->text) : OK;
}

// key=value: a dotted lower-case key before the first '='.
static bool is_setting(const char *word) {
    const char *equals = strchr(word, '=');
    if (equals == NULL || equals == word) return false;
    for (const char *c = word; c < equals; c++) {
        if ((*c < 'a' || *c > 'z') && (*c < '0' || *c > '9') && *c != '_' && *c != '.')
            return false;
    }
    return true;
}

Status arguments_parse(Arguments *a, int argc, char **argv, const Option *options, int count) {
    *a = (Arguments){0};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0') {
            TRY(take_option(options, count, argc, argv, &i));
            continue;
        }
        if (argv[i][0] == '-' && argv[i][1] != '\0' && argv[i][1] != '-') {
            FAIL(E_USAGE, "options are spelled out: --name", "unknown option `%s`", argv[i]);
        }
        if (a->word_count == MAX_WORDS || a->setting_count == MAX_WORDS) {
            FAIL(E_USAGE, "put settings into the configuration file", "more than %d words",
                 MAX_WORDS);
        }
        if (is_setting(argv[i])) {
            a->settings[a->setting_count++] = argv[i];
        } else {
            TRY(check_path(argv[i]));
            a->words[a->word_count++] = argv[i];
        }
    }
    return OK;
}

Status arguments_no_settings(const Arguments *a, const char *command) {
    if (a->setting_count == 0) return OK;
    FAIL(E_USAGE, "a file of such a name is written ./NAME", "`%s` takes no settings: `%s`",
         command, a->settings[0]);
}

// A line "name: value". Long values, and what would end the line, are told by a hash.
static void write_told(FILE *out, const char *name, const char *value) {
    enum { SHOWN = 200 };
    size_t n = strlen(value), shown = strcspn(value, "\n");
    if (shown > SHOWN) shown = SHOWN;
    fprintf(out, "%s: %.*s", name, (int)shown, value);
    if (shown < n)
        fprintf(out, "... (%zu bytes, hash %016llx)", n, (unsigned long long)hash64(value, n));
    fputc('\n', out);
}

Status arguments_agree(Status mine, const Arguments *a, const Option *options, int count) {
    char *text = NULL, name[64];
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ASSERT(out != NULL);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "--%s", options[i].name);
        write_told(out, name, *options[i].text == NULL ? "(not given)" : *options[i].text);
    }
    for (int i = 0; i < a->word_count; i++) {
        snprintf(name, sizeof name, "word %03d", i + 1);
        write_told(out, name, a->words[i]);
    }
    bool complete = fclose(out) == 0;
    ASSERT(complete);
    Status st = parallel_agree_told(mine, text);
    free(text);
    return st;
}

Status output_check(const char *name, const char *path, bool directory, const char *const inputs[],
                    int count) {
    if (!directory && path_is_dir(path))
        FAIL(E_USAGE, "give the name of a file", "--%s %s: a directory", name, path);
    for (int i = 0; i < count; i++) {
        if (!path_is_within(path, inputs[i]) && !(directory && path_is_within(inputs[i], path)))
            continue;
        FAIL(E_USAGE, "what is read must not be replaced: choose another place",
             "--%s %s and the input %s are one, or one lies inside of the other", name, path,
             inputs[i]);
    }
    return OK;
}

Status option_number(long *out, const char *name, const char *text, long min, long max) {
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (end != text && *end == '\0' && errno == 0 && *out >= min && *out <= max) return OK;
    FAIL(E_USAGE, "a whole number", "--%s %s: not a number from %ld to %ld", name, text, min, max);
}

void options_print(const Option *options, int count) {
    for (int i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", options[i].name,
                 options[i].value == NULL ? "" : options[i].value);
        printf("  %-24s %s\n", left, options[i].help);
    }
}
