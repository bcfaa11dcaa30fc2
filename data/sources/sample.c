// The sample compiled into the program (data/sample/*.txt, public domain): enough to try everything
// without a network or a package archive. A line "%% TITLE" starts a document. The build turns the
// files into the table SAMPLES.
#include "data/sources/formats.h"
#include "data/sources/sample.h"
#include "data/sources/sources.h"

#include <stdio.h>
#include <string.h>

// A handful of rows: looked through.
static const Sample *sample_find(const char *name) {
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        if (strcmp(SAMPLES[i].name, name) == 0) return &SAMPLES[i];
    }
    return NULL;
}

bool sample_has(const char *name) {
    return sample_find(name) != NULL;
}

Status sample_read(DocList *docs, const char *name, uint32_t source, int64_t limit_bytes) {
    const Sample *sample = sample_find(name);
    if (sample == NULL) return OK;
    TextSpan rest = {(const char *)sample->data, sample->bytes}, line = {NULL, 0};
    TextSpan text = {rest.at, 0};
    char title[sizeof docs->docs->title] = "";
    int64_t so_far = 0;
    uint32_t number = 0;
    bool full = false;
    while (!full && line_next(&rest, &line)) {
        // The document before the mark is complete; the first mark has none before it.
        if (span_starts(line, "%% ")) {
            uint64_t id = doc_id(source, number, 0);
            full = doclist_take(docs, id, title, text, limit_bytes, &so_far);
            number += text.bytes > 0;
            span_copy(title, sizeof title, (TextSpan){line.at + 3, line.bytes - 3}, sizeof title);
            text = (TextSpan){rest.at, 0};
        } else {
            text.bytes = (size_t)(line.at + line.bytes - text.at) + 1;
        }
    }
    if (full) return OK;
    // The last line may lack its newline.
    size_t left = (size_t)((const char *)sample->data + sample->bytes - text.at);
    if (text.bytes > left) text.bytes = left;
    doclist_take(docs, doc_id(source, number, 0), title, text, limit_bytes, &so_far);
    return OK;
}
