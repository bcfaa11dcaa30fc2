// Sub-commands: one file each (cmd_NAME.c), one row of the table in main.c.
#pragma once

#include "base/status.h"

typedef struct Command {
    const char *name, *summary;
    Status (*run)(int argc, char **argv);  // argv[0] is the command's name
    void (*help)(void);                    // prints usage and options on stdout
    bool single;                           // no action of it works on several ranks
} Command;

// Every command answers --help. Arguments left after options are the command's business.
#define COMMAND(name)                                                                              \
    Status cmd_##name(int argc, char **argv) CHECKED;                                              \
    void help_##name(void);
COMMAND(train)
COMMAND(data)
COMMAND(tokenizer)
COMMAND(plan)
COMMAND(mixers)
COMMAND(forward)
COMMAND(generate)
COMMAND(eval)
COMMAND(ckpt)
COMMAND(report)
COMMAND(bench)
COMMAND(config)
#undef COMMAND

// Parsed command line: options are "--name value", "--name=value" or flags; "key=value" words are
// configuration; the rest are positional. Unknown options: E_USAGE.
typedef struct Option {
    const char *name;   // without dashes
    const char *value;  // metavariable shown in help, NULL: a flag
    const char *help;
    const char **text;  // receives the value (flags: "1"); stays as it was when absent
} Option;
enum { MAX_WORDS = 64 };
typedef struct Arguments {
    const char *words[MAX_WORDS];  // positional
    int word_count;
    const char *settings[MAX_WORDS];  // key=value
    int setting_count;
} Arguments;
Status arguments_parse(Arguments *a, int argc, char **argv, const Option *options,
                       int count) CHECKED;
// All ranks could read their command lines (mine), and have the same options and words; settings
// are for whoever reads them to compare (parallel_agree_config). Collective(world).
Status arguments_agree(Status mine, const Arguments *a, const Option *options, int count) CHECKED;
// E_USAGE when there is a key=value word: for commands that read no configuration.
Status arguments_no_settings(const Arguments *a, const char *command) CHECKED;
void options_print(const Option *options, int count);  // aligned help lines
// E_USAGE when `path`, the value of option --name, is one of the inputs or lies inside of one; a
// directory, unless one is to be written; or, a directory, has one of the inputs inside.
Status output_check(const char *name, const char *path, bool directory, const char *const inputs[],
                    int count) CHECKED;
// The value of option --name as a whole number from min to max. E_USAGE.
Status option_number(long *out, const char *name, const char *text, long min, long max) CHECKED;
