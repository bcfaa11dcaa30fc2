// sterna config: the reference of every configuration key, for a terminal, as docs/config.md and as
// the manual page docs/sterna.1. All of it comes from the tables the program itself reads.
#include <stdio.h>
#include <stdlib.h>

#include "train/commands.h"
#include "train/run.h"

static const char *markdown_flag, *man_flag;
static const Option OPTIONS[] = {
    {"markdown", NULL, "as Markdown: docs/config.md", &markdown_flag},
    {"man", NULL, "as a manual page: docs/sterna.1", &man_flag},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_config(void) {
    puts("usage: sterna config [--markdown | --man]\n\n"
         "Prints every configuration key with its default, range and meaning.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// What the manual page says of each command; tests/cli/config.sh compares it with `sterna --help`.
typedef struct Page {
    const char *name, *arguments, *text;
} Page;
static const Page PAGES[] = {
    {"train", "CONFIG.yaml [key=value ...]", "pre-train a model; run again to resume"},
    {"plan", "[CONFIG.yaml | --preset NAME] [key=value ...]",
     "parameters, memory and cost of a configuration"},
    {"mixers", "[CONFIG.yaml] [--tokens T] [key=value ...]",
     "token mixers: what each sees and costs"},
    {"generate", "--model DIR --prompt TEXT [options]", "continue prompts with a trained model"},
    {"eval", "--model DIR --text FILE [--seq T]", "nats/token and bits/byte of a text"},
    {"forward", "MODEL_DIR --ids IN --out OUT [--grads]",
     "logits, loss and gradients of given token ids"},
    {"data", "run [CONFIG.yaml] [data.key=value ...] | verify DIR | sources",
     "fetch, clean, tokenize and pack the corpus"},
    {"tokenizer", "train | encode | decode [options]", "train a tokenizer, encode, decode"},
    {"ckpt", "ls DIR | verify STEP_DIR | diff A B | export --model DIR --out DIR",
     "list, verify and compare checkpoints, export models"},
    {"report", "RUN_DIR", "write report.html of a run directory"},
    {"bench", "step [options] [key=value ...]",
     "measure a training step against the processor's SGEMM rate"},
    {"config", "[--markdown | --man]", "reference of every configuration key"},
};
enum { PAGE_COUNT = sizeof PAGES / sizeof PAGES[0] };

// groff takes a bare hyphen for a soft one.
static void man_text(const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '-') putchar('\\');
        putchar(*c);
    }
}

static void man_head(void) {
    puts(".\\\" Made by `sterna config --man`; do not edit.\n"
         ".TH STERNA 1 \"\" \"sterna\" \"User Commands\"\n"
         ".SH NAME\n"
         "sterna \\- pre\\-train TransNormerLLM and Llama\\-style language models over MPI\n"
         ".SH SYNOPSIS\n"
         "[\\fBmpirun \\-n\\fR \\fIRANKS\\fR] \\fBsterna\\fR \\fICOMMAND\\fR [\\fIarguments\\fR]\n"
         ".br\n"
         "\\fBsterna\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR\n"
         ".br\n"
         "\\fBsterna \\-\\-version\\fR\n"
         ".SH COMMANDS");
    for (int i = 0; i < PAGE_COUNT; i++) {
        printf(".TP\n\\fB%s\\fR ", PAGES[i].name);
        man_text(PAGES[i].arguments);
        putchar('\n');
        man_text(PAGES[i].text);
        putchar('\n');
    }
}

static void man_tail(void) {
    puts(".SH EXIT STATUS");
    for (Status st = OK; st < STATUS_COUNT; st++) {
        if (status_joins(st)) {
            fputs("or ", stdout);
        } else {
            printf(".TP\n.B %d\n", status_exit_code(st));
        }
        man_text(status_text(st));
        putchar('\n');
    }
}

static void print_man(const Section *sections) {
    man_head();
    puts(
        ".SH CONFIGURATION KEYS\n"
        "Keys are written in the YAML file given to \\fBsterna train\\fR, nested or dotted, and on "
        "the command line as \\fIkey\\fR=\\fIvalue\\fR, which wins.\n"
        "Each is shown with its default and range.");
    config_help(sections, RUN_SECTIONS, HELP_MAN, stdout);
    man_tail();
}

static void print_markdown(const Section *sections) {
    puts("# Configuration keys\n\n"
         "Made by `sterna config --markdown`; do not edit. Keys are written in the YAML file given "
         "to\n"
         "`sterna train`, nested or dotted, and on the command line as `key=value`, which wins.");
    config_help(sections, RUN_SECTIONS, HELP_MARKDOWN, stdout);
}

Status cmd_config(int argc, char **argv) {
    Arguments a;
    TRY(arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT));
    if (a.word_count + a.setting_count > 0) {
        FAIL(E_USAGE, "sterna config [--markdown | --man]", "unexpected word `%s`",
             a.word_count > 0 ? a.words[0] : a.settings[0]);
    }
    if (markdown_flag != NULL && man_flag != NULL) {
        FAIL(E_USAGE, "run it twice", "--markdown and --man are both given");
    }
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    if (man_flag != NULL) {
        print_man(sections);
    } else if (markdown_flag != NULL) {
        print_markdown(sections);
    } else {
        config_help(sections, RUN_SECTIONS, HELP_TEXT, stdout);
    }
    free(cfg);
    return OK;
}
