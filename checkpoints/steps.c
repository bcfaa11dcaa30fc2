// The directories of a run's checkpoints: step_00000120 is a finished one, step_00000120.tmp is
// being written, step_00000120.old stands for the moment in which a step is replaced by a new copy
// of itself, step_00000120.bad was found damaged. Those without a mark or a manifest are somebody
// else's: they are no checkpoints, and stay.
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

static void step_path(char path[PATH_BYTES], const char *ckpt_dir, int64_t step,
                      const char *suffix) {
    char name[STEP_NAME_BYTES];
    step__name(name, step, suffix);
    path_join(path, ckpt_dir, name);
}

// --- whose they are ---

// user: the files that the manifest lists; NULL: nobody knows them any more.
static bool step_names(const char *name, const void *user) {
    const FileTable *files = user;
    if (strcmp(name, MANIFEST_FILE) == 0) return true;
    for (int i = 0; files != NULL && i < files->count; i++)
        if (strcmp(name, files->files[i].file) == 0) return true;
    size_t n = strlen(name), tail = strlen(".safetensors");
    return files == NULL && n > tail && strcmp(name + n - tail, ".safetensors") == 0;
}

static bool step_knows(const char *path, const void *user) {
    char manifest[PATH_BYTES];
    (void)user;
    path_join(manifest, path, MANIFEST_FILE);
    bool known = path_look(manifest) != E_MISSING && !path_is_dir(manifest);
    err_clear();
    return known;
}

static OwnKind step_kind(const FileTable *files) {
    return (OwnKind){.mark = ".sterna-step",
                     .what = "checkpoint",
                     .remedy = "move it away, or give another train.run_dir",
                     .whole = true,
                     .names = step_names,
                     .knows = step_knows,
                     .user = files};
}

Status steps__take(const char *path) {
    OwnKind kind = step_kind(NULL);
    return own_take(path, &kind);
}

static bool is_ours(const char *path) {
    OwnKind kind = step_kind(NULL);
    return own_is(path, &kind);
}

// With the manifest's list of files, where it can be read.
static Status with_files(const char *path, Status (*act)(const char *, const OwnKind *)) {
    Manifest m = {0};
    FileTable files = {0};
    bool listed = manifest__read(path, &m, &files) == OK;
    if (!listed) err_clear();
    OwnKind kind = step_kind(listed ? &files : NULL);
    Status st = act(path, &kind);
    manifest_free(&m);
    filetable__free(&files);
    return st;
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

static void keep_ours(const char *ckpt_dir, const char *suffix, StepList *list) {
    int kept = 0;
    for (int i = 0; i < list->count; i++) {
        char path[PATH_BYTES];
        step_path(path, ckpt_dir, list->steps[i], suffix);
        if (is_ours(path)) list->steps[kept++] = list->steps[i];
    }
    list->count = kept;
}

Status steps__list(const char *ckpt_dir, StepList *list) {
    TRY(list_with_suffix(ckpt_dir, "", list));
    keep_ours(ckpt_dir, "", list);
    return OK;
}

void checkpoint_step_dir(char path[PATH_BYTES], const char *ckpt_dir, int64_t step) {
    step_path(path, ckpt_dir, step, "");
}

Status checkpoint_newest(const char *ckpt_dir, int64_t *step) {
    static const char *const suffixes[] = {"", ".old"};
    *step = -1;
    for (int i = 0; i < 2; i++) {
        StepList list;
        TRY(list_with_suffix(ckpt_dir, suffixes[i], &list));
        keep_ours(ckpt_dir, suffixes[i], &list);
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
void steps__discard(const char *path) {
    char *message = strdup(err_message()), *hint = strdup(err_hint());
    ASSERT(message != NULL && hint != NULL);
    if (with_files(path, own_remove) != OK) log_warn("%s stays: %s", path, err_message());
    (void)err_set(OK, hint, "%s", message);
    free(message);
    free(hint);
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
    if (!is_ours(old)) return OK;
    Status there = path_look(whole);
    if (there == E_MISSING) return move(old, whole);
    if (there == OK && is_ours(whole)) steps__discard(old);
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
        steps__discard(path);
    }
    steps__free(&list);
    return OK;
}

// Steps that end in `suffix`, newer than `after`: E_USAGE unless a checkpoint may take their
// places.
static Status check_places(const char *ckpt_dir, const char *suffix, int64_t after) {
    StepList list;
    char path[PATH_BYTES];
    TRY(list_with_suffix(ckpt_dir, suffix, &list));
    Status st = OK;
    for (int i = 0; i < list.count && list.steps[i] > after && st == OK; i++) {
        step_path(path, ckpt_dir, list.steps[i], suffix);
        st = with_files(path, own_check);
    }
    steps__free(&list);
    return st;
}

Status checkpoint_check_places(const char *ckpt_dir) {
    StepList ours;
    TRY(path__check(ckpt_dir));
    TRY(check_places(ckpt_dir, ".tmp", -1));
    TRY(check_places(ckpt_dir, ".old", -1));
    TRY(steps__list(ckpt_dir, &ours));
    int64_t newest = ours.count > 0 ? ours.steps[0] : -1;
    steps__free(&ours);
    return check_places(ckpt_dir, "", newest);
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
    if (replaces) TRY(with_files(whole, own_check));
    if (replaces) TRY(move(whole, old));
    TRY(move(tmp, whole));
    TRY(dir_sync(ckpt_dir));
    if (replaces) steps__discard(old);
    return OK;
}

// Where that cannot be done it stays, and is found damaged again.
void steps__set_aside(const char *ckpt_dir, int64_t step) {
    char path[PATH_BYTES], bad[PATH_BYTES];
    step_path(path, ckpt_dir, step, "");
    step_path(bad, ckpt_dir, step, ".bad");
    if (path_exists(bad)) steps__discard(bad);
    if (rename(path, bad) == 0) log_warn("%s is now %s", path, bad);
}

// Of those found damaged the newest is enough to look into.
static void prune_bad(const char *ckpt_dir) {
    StepList list;
    char path[PATH_BYTES];
    if (list_with_suffix(ckpt_dir, ".bad", &list) != OK) return;
    for (int i = 1; i < list.count; i++) {
        step_path(path, ckpt_dir, list.steps[i], ".bad");
        if (is_ours(path)) steps__discard(path);
    }
    steps__free(&list);
}

// Steps beyond `newest` are left alone: someone went back on purpose.
void steps__prune(const char *ckpt_dir, int64_t newest, int keep) {
    StepList list;
    prune_bad(ckpt_dir);
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
        Status st = with_files(path, own_check);
        if (st == OK) st = move(path, tmp);
        if (st == OK)
            steps__discard(tmp);
        else
            log_warn("%s stays: %s", path, err_message());
    }
    steps__free(&list);
}
