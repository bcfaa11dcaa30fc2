// A growable list of documents. Growth is by half, as texts are moved by pointer, never copied
// again.
#include "data/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/signals.h"

enum { SOURCE_SHIFT = 52 };  // the id's upper 12 bits

// Room for one more at the end.
static Doc *doclist_grow(DocList *l) {
    if (l->count == l->capacity) {
        l->capacity += l->capacity / 2 + 16;
        l->docs = realloc(l->docs, l->capacity * sizeof *l->docs);
        ASSERT(l->docs != NULL);  // a list of headers: small beside the texts
    }
    return &l->docs[l->count++];
}

void doclist_add(DocList *l, uint64_t id, const char *title, const char *text, size_t bytes) {
    Doc *doc = doclist_grow(l);
    *doc = (Doc){.id = id, .bytes = bytes, .text = malloc(bytes + 1)};
    ASSERT(doc->text != NULL);
    if (bytes > 0) memcpy(doc->text, text, bytes);
    doc->text[bytes] = '\0';

    // Cut a long title between characters: a continuation byte must not open what is left out.
    size_t length = strlen(title);
    if (length >= sizeof doc->title) {
        length = sizeof doc->title - 1;
        while (length > 0 && ((unsigned char)title[length] & 0xC0) == 0x80) length--;
    }
    memcpy(doc->title, title, length);
}

void doclist__move(DocList *to, Doc *doc) {
    *doclist_grow(to) = *doc;
    doc->text = NULL;
}

int doc__source(const Doc *doc) {
    return (int)(doc->id >> SOURCE_SHIFT);
}

void doc__release(Doc *doc) {
    free(doc->text);
    doc->text = NULL;
}

Status doc__check_stop(void) {
    return signals_check("the text is prepared");
}

void doclist_free(DocList *l) {
    for (size_t i = 0; i < l->count; i++) free(l->docs[i].text);
    free(l->docs);
    *l = (DocList){0};
}
