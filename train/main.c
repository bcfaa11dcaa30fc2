// The program: finds the sub-command, runs it, prints the one error, and ends with the documented
// exit code.
#include <stdio.h>
#include <string.h>

#include "base/build.h"
#include "base/log.h"
#include "parallel/world.h"
#include "tensor/start.h"
#include "tensor/threads.h"
#include "train/commands.h"

static const Command COMMANDS[] = {
    {"train", "pre-train a model; run again to resume", cmd_train, help_train, false},
    {"plan", "parameters, memory and cost of a configuration", cmd_plan, help_plan, true},
    {"mixers", "token mixers: what each sees and costs", cmd_mixers, help_mixers, true},
    {"generate", "continue prompts with a trained model", cmd_generate, help_generate, false},
    {"eval", "nats/token and bits/byte of a text", cmd_eval, help_eval, false},
    {"forward", "logits, loss and gradients of given token ids", cmd_forward, help_forward, false},
    {"data", "fetch, clean, tokenize and pack the corpus", cmd_data, help_data, false},
    {"tokenizer", "train a tokenizer, encode, decode", cmd_tokenizer, help_tokenizer, false},
    {"ckpt", "list, verify and compare checkpoints, export models", cmd_ckpt, help_ckpt, true},
    {"report", "write report.html of a run directory", cmd_report, help_report, true},
    {"bench", "measure a training step against the processor's SGEMM rate", cmd_bench, help_bench,
     false},
    {"config", "reference of every configuration key", cmd_config, help_config, true},
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static void usage(FILE *out) {
    fputs("usage: sterna COMMAND [arguments]     sterna COMMAND --help\n\n", out);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        fprintf(out, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    }
    fputs("\nexit codes:", out);
    for (Status st = OK; st < STATUS_COUNT; st++) {
        if (status_joins(st)) {
            fprintf(out, ", or %s", status_text(st));
        } else {
            fprintf(out, "%s%d %s", st == OK ? " " : "; ", status_exit_code(st), status_text(st));
        }
    }
    fputc('\n', out);
}

static const Command *command_find(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(COMMANDS[i].name, name) == 0) return &COMMANDS[i];
    }
    return NULL;
}

static bool asks_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    }
    return false;
}

// After parallel_begin every failure is agreed on, so one rank speaks for all.
static int end_program(Status st) {
    bool unread = false;
    if (st == OK) st = output_end(&unread);
    if (st != OK && !unread && (!parallel_is_on() || parallel_world_rank() == 0)) log_error(st);
    if (parallel_is_on()) parallel_end();
    return status_exit_code(st);
}

int main(int argc, char **argv) {
    log_begin();
    libraries_prepare(argv);
    threads_choose_alone(1);  // until other ranks are known
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? status_exit_code(E_USAGE) : end_program(OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts(BUILD_VERSION);
        return end_program(OK);
    }
    const Command *c = command_find(argv[1]);
    if (c == NULL) {
        err_set(E_USAGE, "`sterna --help` lists the commands", "unknown command `%s`", argv[1]);
        return end_program(E_USAGE);
    }
    if (asks_help(argc - 1, argv + 1)) {
        c->help();
        return end_program(OK);
    }
    Status st = c->single ? parallel_check_single(c->name) : OK;
    return end_program(st == OK ? c->run(argc - 1, argv + 1) : st);
}
