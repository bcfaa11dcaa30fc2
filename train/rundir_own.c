// Whose a run directory is. It is shared with other files of the user's; what has a name that a run
// writes must be the program's own, or the run is refused before it touches anything.
#include <string.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/own.h"
#include "base/path.h"
#include "train/report_internal.h"
#include "train/run.h"

static const char *const NAMES[] = {"config.requested.yaml",
                                    "config.resolved.yaml",
                                    "corpus.json",
                                    "metrics.jsonl",
                                    "metrics.jsonl.bad",
                                    "checkpoint.json",
                                    "ckpt",
                                    "samples",
                                    "model",
                                    "report.html",
                                    "comm.json",
                                    "exit.json"};
enum { NAME_COUNT = sizeof NAMES / sizeof NAMES[0] };
static const char MARK[] = ".sterna-run";

static bool run_names(const char *name, const void *user) {
    (void)user;
    for (int i = 0; i < NAME_COUNT; i++) {
        if (strcmp(name, NAMES[i]) == 0) return true;
    }
    return false;
}

// Versions before the mark wrote these first.
static bool run_knows(const char *path, const void *user) {
    (void)user;
    for (int i = 0; i < 2; i++) {
        char config[PATH_BYTES];
        path_join(config, path, NAMES[i]);
        bool known = path_look(config) != E_MISSING && !path_is_dir(config);
        err_clear();
        if (known) return true;
    }
    return false;
}

static const OwnKind RUN_KIND = {.mark = MARK,
                                 .what = "run",
                                 .remedy = "give another train.run_dir, or move it away",
                                 .names = run_names,
                                 .knows = run_knows};

// A version before the marks exported its model, and then said that it had finished.
static bool exported_unmarked(const char *run_dir) {
    char path[PATH_BYTES], *text = NULL;
    size_t bytes;
    Json *root = NULL;
    path_join(path, run_dir, MARK);
    if (path_exists(path) || !run_knows(run_dir, NULL)) return false;
    path_join(path, run_dir, "exit.json");
    const char *reason = "";
    Status st = file_read(path, &text, &bytes);
    if (st == OK) st = json_open(&root, text, bytes, path);
    JsonAt top = json_top(root, path, NULL);
    if (st == OK) st = json_opt_text(&reason, &top, "reason");
    bool finished = st == OK && strcmp(reason, "finished") == 0;
    json_close(root);
    free(text);
    err_clear();
    return finished;
}

// The model that a run starts from and the one that it writes in the end.
static Status check_init(const char *init, const char *place) {
    if (init[0] == '\0' || (!path_is_within(init, place) && !path_is_within(place, init)))
        return OK;
    FAIL(E_USAGE, "give another train.run_dir: what lies there is replaced by the run's own",
         "train.init: %s and %s are one, or one lies inside of the other", init, place);
}

Status rundir_check_own(const RunConfig *cfg) {
    const char *run_dir = cfg->train.run_dir;
    char place[PATH_BYTES];
    TRY(corpus_check_outside(&cfg->data, "train.run_dir", run_dir));
    for (int i = 0; i < NAME_COUNT; i++) {
        path_join(place, run_dir, NAMES[i]);
        TRY(corpus_check_kept(&cfg->data, place));
        TRY(check_init(cfg->train.init, place));
    }
    TRY(own_check(run_dir, &RUN_KIND));
    path_join(place, run_dir, "ckpt");
    TRY(checkpoint_check_places(place));
    path_join(place, run_dir, "model");
    return exported_unmarked(run_dir) ? OK : hf_dir_check(place);
}

Status rundir_take(const char *run_dir) {
    char model[PATH_BYTES];
    path_join(model, run_dir, "model");
    if (path_is_dir(model) && exported_unmarked(run_dir)) TRY(hf_dir_adopt(model));
    return own_take(run_dir, &RUN_KIND);
}

// Anybody may ask for a report of a directory with figures in it.
Status report__check(const char *dir, const char *path) {
    char *page = NULL;
    if (own_is(dir, &RUN_KIND) || !path_exists(path) || path_is_dir(path)) return OK;
    TRY(file_read(path, &page, NULL));
    bool ours = strstr(page, REPORT_KICKER) != NULL;
    free(page);
    if (ours) return OK;
    FAIL(E_USAGE, "move it away", "%s was not made by this program: no report takes its place",
         path);
}
