// The directories of a run's checkpoints: step_00000120 is a finished one, step_00000120.tmp is
// being written, step_00000120.old stands for the moment in which a step is replaced by a new copy
// of itself.
#include "checkpoints/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const char PREFIX[] = "step_";
enum { MIN_DIGITS = 8, MAX_DIGITS = 18 };  // 18 digits fit an int64_t

void step__name(char out[STEP_NAME_BYTES], int64_t step, const char *suffix) {
    ASSERT(step >= 0);
    snprintf(out, STEP_NAME_BYTES, "%s%0*lld%s", PREFIX, MIN_DIGITS, (long long)step, suffix);
}

// The step of a name made by step__name with this suffix, else -1.
static int64_t parse_name(const char *name, const char *suffix) {
    size_t skip = sizeof PREFIX - 1;
    if (strncmp(name, PREFIX, skip) != 0) return -1;
    size_t digits = strspn(name + skip, "0123456789");
    if (digits < MIN_DIGITS || digits > MAX_DIGITS) return -1;
    if (strcmp(name + skip + digits, suffix) != 0) return -1;
    return (int64_t)strtoll(name + skip, NULL, 10);
}

int64_t step__of_dir(const char *dir) {
    char name[STEP_NAME_BYTES];
    size_t end = strlen(dir);
    while (end > 0 && dir[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && dir[begin - 1] != '/') begin--;
    if (end - begin >= sizeof name) return -1;
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), dir + begin);
    name[strcspn(name, ".")] = '\0';  // .bad, .tmp, .old
    return parse_name(name, "");
}

typedef struct Search {
    StepList *list;
    const char *suffix;
    int capacity;
} Search;

// A visitor of dir_each: keeps what step__name would have made.
static Status collect(const char *name, void *user) {
    Search *s = user;
    int64_t step = parse_name(name, s->suffix);
    if (step < 0) return OK;
    if (s->list->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 16 : 2 * s->capacity;
        int64_t *grown = realloc(s->list->steps, (size_t)s->capacity * sizeof *grown);
        if (grown == NULL)
            FAIL(E_NOMEM, "free memory on this machine", "no memory to list checkpoints");
        s->list->steps = grown;
    }
    s->list->steps[s->list->count++] = step;
    return OK;
}

static int newest_first(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

// Newest first. On failure the list is empty.
static Status list_with_suffix(const char *ckpt_dir, const char *suffix, StepList *list) {
    *list = (StepList){0};
    Status there = path_look(ckpt_dir);
    if (there == E_MISSING) return OK;
    TRY(there);
    Search search = {list, suffix, 0};
    Status st = dir_each(ckpt_dir, collect, &search);
    if (st != OK) steps__free(list);
    if (list->count > 0) qsort(list->steps, (size_t)list->count, sizeof *list->steps, newest_first);
    return st;
}

Status steps__list(const char *ckpt_dir, StepList *list) {
    return list_with_suffix(ckpt_dir, "", list);
}

Status checkpoint_newest(const char *ckpt_dir, int64_t *step) {
    static const char *const suffixes[] = {"", ".old"};
    *step = -1;
    for (int i = 0; i < 2; i++) {
        StepList list;
        TRY(list_with_suffix(ckpt_dir, suffixes[i], &list));
        if (list.count > 0 && list.steps[0] > *step) *step = list.steps[0];
        steps__free(&list);
    }
    return OK;
}

void steps__free(StepList *list) {
    free(list->steps);
    *list = (StepList){0};
}

// Cleaning up after a failure must not replace its message.
void dir__discard(const char *path) {
    char *message = strdup(err_message()), *hint = strdup(err_hint());
    ASSERT(message != NULL && hint != NULL);
    if (dir_remove(path) != OK) log_warn("cannot remove %s: %s", path, err_message());
    (void)err_set(OK, hint, "%s", message);
    free(message);
    free(hint);
}

static void step_path(char path[PATH_BYTES], const char *ckpt_dir, int64_t step,
                      const char *suffix) {
    char name[STEP_NAME_BYTES];
    step__name(name, step, suffix);
    path_join(path, ckpt_dir, name);
}

static Status move(const char *from, const char *to) {
    if (rename(from, to) == 0) return OK;
    FAIL(E_IO, "check that the checkpoint directory is writable", "cannot rename %s to %s: %s",
         from, to, strerror(errno));
}

// A step's earlier copy is dropped only where the new one is seen.
static Status put_back(const char *ckpt_dir, int64_t step) {
    char old[PATH_BYTES], whole[PATH_BYTES];
    step_path(old, ckpt_dir, step, ".old");
    step_path(whole, ckpt_dir, step, "");
    Status there = path_look(whole);
    if (there == E_MISSING) return move(old, whole);
    if (there == OK) dir__discard(old);
    return there;
}

// Only one process at a time writes to a checkpoint directory, so what is unfinished here is
// abandoned.
Status steps__recover(const char *ckpt_dir) {
    StepList list;
    TRY(list_with_suffix(ckpt_dir, ".old", &list));
    Status st = OK;
    for (int i = 0; i < list.count && st == OK; i++) st = put_back(ckpt_dir, list.steps[i]);
    steps__free(&list);
    TRY(st);
    TRY(list_with_suffix(ckpt_dir, ".tmp", &list));
    for (int i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        step_path(path, ckpt_dir, list.steps[i], ".tmp");
        dir__discard(path);
    }
    steps__free(&list);
    return OK;
}

// The files are synced by their writers, the names here: first those in the step, then the step's
// own.
Status steps__publish(const char *ckpt_dir, int64_t step) {
    char tmp[PATH_BYTES], whole[PATH_BYTES], old[PATH_BYTES];
    step_path(tmp, ckpt_dir, step, ".tmp");
    step_path(whole, ckpt_dir, step, "");
    step_path(old, ckpt_dir, step, ".old");
    TRY(dir_sync(tmp));
    // A directory cannot be renamed over one with contents: the same step's earlier copy steps
    // aside.
    Status there = path_look(whole);
    if (there != OK && there != E_MISSING) return there;
    bool replaces = there == OK;
    if (replaces) TRY(move(whole, old));
    TRY(move(tmp, whole));
    TRY(dir_sync(ckpt_dir));
    if (replaces) dir__discard(old);
    return OK;
}

// Where that cannot be done it stays, and is found damaged again.
void steps__set_aside(const char *ckpt_dir, int64_t step) {
    char path[PATH_BYTES], bad[PATH_BYTES];
    step_path(path, ckpt_dir, step, "");
    step_path(bad, ckpt_dir, step, ".bad");
    if (path_exists(bad)) dir__discard(bad);
    if (rename(path, bad) == 0) log_warn("%s is now %s", path, bad);
}

// Steps beyond `newest` are left alone: someone went back on purpose.
void steps__prune(const char *ckpt_dir, int64_t newest, int keep) {
    StepList list;
    if (keep <= 0) return;
    if (steps__list(ckpt_dir, &list) != OK) {
        log_warn("old checkpoints stay: %s", err_message());
        return;
    }
    int seen = 0;
    for (int i = 0; i < list.count; i++) {
        if (list.steps[i] > newest || seen++ < keep) continue;
        // Renamed first, so that an interrupted removal never looks like a damaged checkpoint.
        char path[PATH_BYTES], tmp[PATH_BYTES];
        step_path(path, ckpt_dir, list.steps[i], "");
        step_path(tmp, ckpt_dir, list.steps[i], ".tmp");
        dir__discard(rename(path, tmp) == 0 ? tmp : path);
    }
    steps__free(&list);
}
