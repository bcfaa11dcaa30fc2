// Which documents are kept out of training, to measure on text no model has seen.
#include "data/internal.h"

#include <string.h>

static bool contains(const char *title, const char *name, size_t length) {
    for (; *title != '\0'; title++)
        if (strncmp(title, name, length) == 0) return true;
    return false;
}

bool holdout__matches(const char *names, const char *title) {
    while (*names != '\0') {
        names += strspn(names, ", ");
        size_t length = strcspn(names, ",");
        size_t trimmed = length;
        while (trimmed > 0 && names[trimmed - 1] == ' ') trimmed--;
        if (trimmed > 0 && contains(title, names, trimmed)) return true;
        names += length;
    }
    return false;
}

// --- moving ---

enum { CHANCE = 100 };  // one document in this many

static uint64_t id_hash(uint64_t id) {
    return hash64(&id, sizeof id) >> 1;
}  // fits an int64_t

typedef struct Choice {
    const char *names;  // NULL: by hash
    uint64_t smallest;  // hash of the document that is always taken
} Choice;

static bool is_chosen(const Choice *choice, const Doc *doc) {
    if (choice->names != NULL) return holdout__matches(choice->names, doc->title);
    uint64_t hash = id_hash(doc->id);
    return hash % CHANCE == 0 || hash == choice->smallest;
}

static void docs_split(DocList *train, DocList *held, const Choice *choice) {
    size_t kept = 0;
    for (size_t i = 0; i < train->count; i++) {
        Doc *doc = &train->docs[i];
        if (is_chosen(choice, doc))
            doclist__move(held, doc);
        else
            train->docs[kept++] = *doc;
    }
    train->count = kept;
}

Status docs__hold_out(DocList *train, DocList *held, bool *by_chance, const char *names,
                      Comm *comm) {
    *by_chance = false;
    if (names[0] == '\0') return OK;  // the same on all ranks: nothing is to be held out
    docs_split(train, held, &(Choice){.names = names});

    int64_t totals[2] = {(int64_t)held->count, (int64_t)train->count};
    comm_sum_i64(comm, totals, 2);
    if (totals[0] > 0 || totals[1] < 2) return OK;

    // The text has other titles: without held-out text there would be no evaluation at all.
    int64_t smallest = INT64_MIN;  // negated, as the smallest of all ranks is wanted
    for (size_t i = 0; i < train->count; i++) {
        int64_t hash = -(int64_t)id_hash(train->docs[i].id);
        if (hash > smallest) smallest = hash;
    }
    comm_max_i64(comm, &smallest, 1);
    docs_split(train, held, &(Choice){.smallest = (uint64_t)-smallest});
    *by_chance = true;
    return OK;
}
