// The program: finds the sub-command, runs it, prints the one error, and ends with the documented
// exit code.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "parallel/parallel.h"
#include "tensor/gemm.h"
#include "train/commands.h"

static const Command COMMANDS[] = {
    {"train", "pre-train a model; run again to resume", cmd_train, help_train},
    {"plan", "parameters, memory and cost of a configuration", cmd_plan, help_plan},
    {"generate", "continue prompts with a trained model", cmd_generate, help_generate},
    {"eval", "nats/token and bits/byte of a text", cmd_eval, help_eval},
    {"forward", "logits, loss and gradients of given token ids", cmd_forward, help_forward},
    {"data", "fetch, clean, tokenize and pack the corpus", cmd_data, help_data},
    {"tokenizer", "train a tokenizer, encode, decode", cmd_tokenizer, help_tokenizer},
    {"ckpt", "list, verify and compare checkpoints, export models", cmd_ckpt, help_ckpt},
    {"report", "write report.html of a run directory", cmd_report, help_report},
    {"bench", "measure a training step against the processor's SGEMM rate", cmd_bench, help_bench},
    {"config", "reference of every configuration key", cmd_config, help_config},
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

// Output that ends in a full disk is a failure like any other.
static Status flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return OK;
    FAIL(E_IO, "is the disk full?", "standard output: %s", strerror(errno));
}

// After parallel_begin every failure is agreed on, so one rank speaks for all.
static int end_program(Status st) {
    if (st == OK) st = flush_output();
    if (st != OK && (!parallel_is_on() || parallel_world_rank() == 0)) log_error(st);
    if (parallel_is_on()) parallel_end();
    return status_exit_code(st);
}

int main(int argc, char **argv) {
    gemm_choose_kernels(argv);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? status_exit_code(E_USAGE) : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("sterna %s (%s)\n", STERNA_VERSION, REAL_NAME);
        return 0;
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
    return end_program(c->run(argc - 1, argv + 1));
}
