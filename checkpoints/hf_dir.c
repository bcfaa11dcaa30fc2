// Directories of models that this program writes, and those that it does not.
#include "checkpoints/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"

static bool is_shard(const char *name) {
    int shard, shards, end = 0;
    sscanf(name, "model-%9d-of-%9d.safetensors%n", &shard, &shards, &end);
    return end > 0 && name[end] == '\0';
}

static bool model_names(const char *name, const void *user) {
    static const char *const NAMES[] = {"model.safetensors",
                                        "model.safetensors.index.json",
                                        "config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "chat_template.jinja"};
    (void)user;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (strcmp(name, NAMES[i]) == 0) return true;
    }
    return is_shard(name);
}

// Shared: a card or a licence that somebody adds stays.
static const OwnKind MODEL_KIND = {.mark = ".sterna-model",
                                   .what = "exported model",
                                   .remedy = "choose another directory, or move it away",
                                   .names = model_names};

// Shards may have any name, which the index then says.
static bool index_lists(const char *dir, const char *name) {
    char path[PATH_BYTES], quoted[PATH_BYTES + 2], *text = NULL;
    path_join(path, dir, "model.safetensors.index.json");
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    Status st = path_look(path);
    if (st == OK) st = file_read(path, &text, NULL);
    bool listed = st == OK ? strstr(text, quoted) != NULL : st != E_MISSING;  // who knows
    free(text);
    err_clear();
    return listed;
}

bool hf_dir_holds(const char *dir, const char *path) {
    if (!path_is_within(path, dir)) return false;
    char resolved[PATH_MAX];
    const char *at = realpath(path, resolved) != NULL ? resolved : path, *slash = strrchr(at, '/');
    const char *name = slash == NULL ? at : slash + 1;
    return model_names(name, NULL) || index_lists(dir, name);
}

Status hf_dir_check(const char *dir) {
    return own_check(dir, &MODEL_KIND);
}

Status hf_dir_take(const char *dir) {
    return own_take(dir, &MODEL_KIND);
}

Status hf_dir_adopt(const char *dir) {
    return own_mark(dir, &MODEL_KIND);
}
