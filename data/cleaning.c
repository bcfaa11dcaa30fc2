// What reading and cleaning left out and took away, told: for the log, reports and files.
#include "data/internal.h"

#include "base/log.h"
#include "parallel/comm.h"

#include <stdio.h>

#define AT(member) offsetof(Cleaning, member)
const CleaningField CLEANING_FIELDS[] = {
    {"files_left_out", "files that are no text in UTF-8 left out", AT(files_left_out)},
    {"bad_lines", "damaged lines left out", AT(bad_lines)},
    {"docs_invalid", "documents that are no UTF-8 left out", AT(docs_invalid)},
    {"docs_empty", "empty documents left out", AT(docs_empty)},
    {"links_skipped", "links to directories or nowhere not followed", AT(links_skipped)},
    {"files_decoded", "files decoded from UTF-16 or UTF-32", AT(files_decoded)},
    {"invalid_bytes", "invalid bytes replaced", AT(invalid_bytes)},
    {"removed_chars", "control and invisible characters removed", AT(removed_chars)},
};
const int CLEANING_FIELD_COUNT = (int)(sizeof CLEANING_FIELDS / sizeof CLEANING_FIELDS[0]);

int64_t *cleaning_count(Cleaning *c, int field) {
    return (int64_t *)((char *)c + CLEANING_FIELDS[field].offset);
}

bool cleaning_text(char out[CLEANING_TEXT_BYTES], const Cleaning *c) {
    size_t used = 0;
    Cleaning copy = *c;  // the counts are reached by one function, which may change them
    out[0] = '\0';
    for (int f = 0; f < CLEANING_FIELD_COUNT; f++) {
        int64_t n = *cleaning_count(&copy, f);
        if (n == 0) continue;
        used += (size_t)snprintf(out + used, CLEANING_TEXT_BYTES - used, "%s%s: %lld",
                                 used > 0 ? ", " : "", CLEANING_FIELDS[f].text, (long long)n);
    }
    if (c->first[0] != '\0') snprintf(out + used, CLEANING_TEXT_BYTES - used, " (%s)", c->first);
    return used > 0;
}

void cleaning__report(CorpusReport *r, NormaliseCounts *counts, Comm *comm) {
    enum { NUMBERS = sizeof *counts / sizeof counts->docs_in };  // nothing but counts
    comm_sum_i64(comm, (int64_t *)counts, MAX_SOURCES * NUMBERS);
    for (int k = 0; k < r->count; k++) {
        Cleaning *c = &r->source[k].cleaned;
        char text[CLEANING_TEXT_BYTES];
        cleaning_add(c, &counts[k]);
        if (cleaning_text(text, c)) log_info("corpus: %s: %s", r->source[k].name, text);
    }
}
