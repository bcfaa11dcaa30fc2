// What every extractor needs: a growing text, lists of files in a fixed order, document ids, lines
// of a text. The extractors themselves stand in sources/, one file a format.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/data.h"

// A growing text. Memory is the only thing that can fail, and that is an ASSERT. Zero-initialise.
typedef struct TextBuf {
    char *text;  // owned, NUL-terminated once anything was added
    size_t bytes, capacity;
} TextBuf;

void textbuf_add(TextBuf *b, const char *text, size_t bytes);
void textbuf_puts(TextBuf *b, const char *text);
void textbuf_char(TextBuf *b, char c);
void textbuf_code_point(TextBuf *b, uint32_t code);  // as UTF-8; invalid ones as U+FFFD
void textbuf_cut(TextBuf *b, size_t bytes);          // back to so many bytes
void textbuf_clear(TextBuf *b);                      // keeps the memory
void textbuf_free(TextBuf *b);

// A piece of text that belongs to somebody else.
typedef struct TextSpan {
    const char *at;
    size_t bytes;
} TextSpan;

// The next line without its LF; false at the end. `rest` moves behind it.
bool line_next(TextSpan *rest, TextSpan *line);
bool span_blank(TextSpan s);
bool span_starts(TextSpan s, const char *prefix);
TextSpan span_trim(TextSpan s);  // without blanks at both ends
size_t span_indent(TextSpan s);  // leading spaces; a tab counts to the next multiple of 8
bool span_same(TextSpan s, const char *text);

// Copies at most `most` bytes (and what fits), whole UTF-8 characters only, NUL-terminated: for
// titles.
void span_copy(char *dst, size_t capacity, TextSpan s, size_t most);

// Document id from position: source 12 bits | file 20 | record 32.
uint64_t doc_id(uint32_t source, uint32_t file, uint32_t record);
// Adds `text` unless it is blank. True when the list has passed limit_bytes (> 0) counted from
// `bytes_so_far`.
bool doclist_take(DocList *l, uint64_t id, const char *title, TextSpan text, int64_t limit_bytes,
                  int64_t *bytes_so_far);

// Relative paths of all regular files below dir whose name ends in one of `suffixes`
// (NULL-terminated list; NULL = all), sorted bytewise. Symbolic links and names starting with '.'
// are skipped; with `follow`, links to files are taken like files. E_IO names the directory.
typedef struct FileList {
    char **paths;
    size_t count, capacity;
    bool follow;
    size_t links;  // skipped
} FileList;
Status filelist_read(FileList *l, const char *dir, const char *const *suffixes) CHECKED;
void filelist_free(FileList *l);
