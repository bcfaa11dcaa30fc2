// The cache: what the program replaces in it (corpus and corpus.tmp as a whole, downloads, unpacked
// sources), and its lock.
#include "data/internal.h"

#include "base/log.h"
#include "data/sources/sources.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

#include <stdio.h>
#include <string.h>

static bool is_shard(const char *name) {
    int source, number, end = 0;
    char same[64];
    if (sscanf(name, "%9d-%9d.tns%n", &source, &number, &end) != 2 || end == 0) return false;
    index__shard_name(same, source, number);
    return strcmp(name, same) == 0;
}

static bool corpus_names(const char *name, const void *user) {
    const char *const names[] = {INDEX_FILE, TOKENIZER_FILE, HOLDOUT_TEXT, HOLDOUT_SHARD};
    (void)user;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return is_shard(name);
}

typedef struct Search {
    const char *dir;
    bool found;
} Search;

static Status find_shard(const char *name, void *user) {
    Search *s = user;
    char path[PATH_BYTES];
    Shard *shard = NULL;
    path_join(path, s->dir, name);
    if (s->found || (!is_shard(name) && strcmp(name, HOLDOUT_SHARD) != 0)) return OK;
    s->found = shard_open(&shard, path, false) == OK;
    shard_close(shard);
    return OK;
}

// By its index; or, where that is lost or not written yet, by a shard. The marks came later.
static bool corpus_knows(const char *path, const void *user) {
    Index ix;
    Search s = {.dir = path};
    (void)user;
    char index[PATH_BYTES];
    path_join(index, path, INDEX_FILE);
    Status st = path_look(index);
    if (st == OK) st = index__read(&ix, path);
    if (st == OK) index__free(&ix);
    bool lost =
        st == E_FORMAT || st == E_MISSING;  // else it is an index, or one that cannot be read now
    if (lost && dir_each(path, find_shard, &s) != OK) s.found = false;
    err_clear();
    return !lost || s.found;
}

const OwnKind CORPUS_KIND = {.mark = ".sterna-corpus",
                             .what = "corpus",
                             .remedy = "give another data.cache, or move it away",
                             .whole = true,
                             .names = corpus_names,
                             .knows = corpus_knows};

// What the names of the corpus and of unpacked sources are taken by.
static Status check_taken(const Inputs *in, const DataConfig *cfg) {
    char path[PATH_BYTES];
    path_join(path, cfg->cache, "corpus.tmp");
    TRY(own_check(path, &CORPUS_KIND));
    path_join(path, cfg->cache, "corpus");
    // One that is ours may be what is wanted, and stay.
    if (!own_is(path, &CORPUS_KIND)) TRY(own_check(path, &CORPUS_KIND));
    for (int k = 0; k < in->count && !cfg->offline; k++) TRY(source_check(in->spec[k], cfg->cache));
    return OK;
}

Status cache__check(const Inputs *in, const DataConfig *cfg) {
    TRY(inputs__outside(in, "data.cache", cfg->cache));
    for (int k = 0; k < in->count; k++)
        if (source_find(in->spec[k]) == NULL)
            TRY(cache__check_outside(cfg, "data.sources", in->spec[k]));
    return check_taken(in, cfg);
}

Status cache__check_outside(const DataConfig *cfg, const char *key, const char *path) {
    static const char *const PLACES[] = {"corpus", "corpus.tmp", "text", "packages"};
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        char place[PATH_BYTES];
        path_join(place, cfg->cache, PLACES[i]);
        if (!path_is_within(path, place)) continue;
        FAIL(E_USAGE, "give another data.cache: what lies there is replaced by the program's own",
             "%s: %s lies inside of %s", key, path, place);
    }
    return OK;
}

// --- a corpus that is there ---

Status cache__check_fixed(const DataConfig *cfg, Hash128 corpus) {
    char dir[PATH_BYTES];
    path_join(dir, cfg->cache, "corpus");
    bool same = cfg->corpus.low == corpus.low && cfg->corpus.high == corpus.high;
    if (!cfg->corpus_fixed || same || !own_is(dir, &CORPUS_KIND)) return OK;
    FAIL(
        E_USAGE,
        "bring back its texts, or the version of sterna that made it, or start a new run directory",
        "%s: the corpus is not the one this run was trained on; what is there stays", dir);
}

Status cache__check_sample(const DataConfig *cfg) {
    char dir[PATH_BYTES];
    Index there;
    path_join(dir, cfg->cache, "corpus");
    Status st = index__read(&there, dir);
    bool fetched = st == OK && !there.report.embedded_sample;
    if (st == OK) index__free(&there);
    err_clear();
    if (!fetched) return OK;
    FAIL(E_NETWORK,
         "try again with network; data.offline=true prepares the small built-in text, best in "
         "another data.cache",
         "%s is made from packages that are out of reach now, and other settings", dir);
}

// --- lock ---

// Rank 0 tries, all hear how it went and whether any of them is asked to stop.
static Status try_lock(Lock *lock, const char *cache, const Mesh *mesh, LockHolder holder,
                       int64_t state[2]) {
    char path[PATH_BYTES];
    bool held = false;
    path_join(path, cache, ".sterna-cache.lock");
    TRY(agree(mesh->rank == 0 ? lock_try(lock, path, &held, holder) : OK, mesh->world));
    state[0] = held;
    state[1] = waiting_signal();
    comm_max_i64(mesh->world, state, 2);
    return OK;
}

Status cache__lock(Lock *lock, const char *cache, const Mesh *mesh) {
    LockHolder holder = "", what;
    int64_t state[2];  // held by somebody else; the signal that came
    TRY(try_lock(lock, cache, mesh, holder, state));
    if (state[0] == 0) return OK;

    Status st;
    log_info("corpus: waiting for %s, which prepares %s", holder, cache);
    waiting_begin();
    do {
        waiting_pause();
        st = try_lock(lock, cache, mesh, holder, state);
    } while (st == OK && state[0] != 0 && state[1] == 0);
    waiting_end();
    if (st != OK || state[1] == 0) return st;
    snprintf(what, sizeof what, "%s is being prepared by %.400s", cache, holder);
    return agree(waiting_stopped((int)state[1], what), mesh->world);
}
