// Which documents are kept out of training, to measure on text no model has seen.
#include "data/internal.h"
#include "parallel/comm.h"

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

enum { CHANCE = 100, FEW = 2 * CHANCE };  // one document in this many; fewer documents go by size

static uint64_t id_hash(uint64_t id) {
    return hash64(&id, sizeof id);
}

typedef struct Choice {
    const char *names;  // NULL: not by title
    int64_t id;         // this document; -1: by hash
} Choice;

static bool is_chosen(const Choice *choice, const Doc *doc) {
    if (choice->names != NULL) return holdout__matches(choice->names, doc->title);
    return choice->id >= 0 ? (int64_t)doc->id == choice->id : id_hash(doc->id) % CHANCE == 0;
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

// How far a document is from the size that is wanted, as something whose largest value wins.
static int64_t closeness(const Doc *doc, int64_t wanted) {
    int64_t more = (int64_t)doc->bytes - wanted;
    return more < 0 ? more : -more;
}

// The id of the document closest to this size; of several the smallest. Ids stay below 2^58.
// Collective.
static int64_t closest_id(const DocList *train, int64_t wanted, Comm *comm) {
    int64_t best = INT64_MIN, id = INT64_MIN;
    for (size_t i = 0; i < train->count; i++) {
        int64_t c = closeness(&train->docs[i], wanted);
        if (c > best) best = c;
    }
    comm_max_i64(comm, &best, 1);
    for (size_t i = 0; i < train->count; i++) {
        int64_t negated = -(int64_t)train->docs[i].id;
        if (closeness(&train->docs[i], wanted) == best && negated > id) id = negated;
    }
    comm_max_i64(comm, &id, 1);
    return -id;
}

// A single document: its last part, from the beginning of a line if there is one.
static void tail_split(DocList *train, DocList *held) {
    if (train->count == 0) return;  // another rank has it
    Doc *doc = &train->docs[0];
    size_t at = doc->bytes - doc->bytes / CHANCE;
    const char *line = memchr(doc->text + at, '\n', doc->bytes - at);
    if (line != NULL && line + 1 < doc->text + doc->bytes) at = (size_t)(line + 1 - doc->text);
    while (at < doc->bytes && ((unsigned char)doc->text[at] & 0xC0) == 0x80) at++;
    if (at == doc->bytes) return;
    doclist_add(held, doc->id, doc->title, doc->text + at, doc->bytes - at);
    doc->bytes = at;
    doc->text[at] = '\0';
}

void docs__hold_out(DocList *train, DocList *held, bool *by_size, const char *names, Comm *comm) {
    *by_size = false;
    if (names[0] == '\0') return;  // the same on all ranks: nothing is to be held out
    docs_split(train, held, &(Choice){.names = names});

    int64_t totals[3] = {(int64_t)held->count, (int64_t)train->count, 0};
    for (size_t i = 0; i < train->count; i++) totals[2] += (int64_t)train->docs[i].bytes;
    comm_sum_i64(comm, totals, 3);
    if (totals[0] > 0 || totals[1] == 0) return;

    // The text has other titles: without held-out text there would be no evaluation at all.
    *by_size = true;
    if (totals[1] == 1) {
        tail_split(train, held);
        return;
    }
    if (totals[1] >= FEW) docs_split(train, held, &(Choice){.id = -1});
    totals[0] = (int64_t)held->count;
    comm_sum_i64(comm, totals, 1);
    if (totals[0] > 0) return;
    docs_split(train, held, &(Choice){.id = closest_id(train, totals[2] / CHANCE, comm)});
}
