// The formats behind the sources, one file each: text in, plain text out. Shared inside sources/
// and with its tests; everybody else uses sources.h. Readers have the contract of source_extract
// and get a directory of unpacked files.
#pragma once

#include "data/extract.h"

typedef Status SourceReader(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes);

// files.c: a document a file, converted by a pure function.
typedef struct FileJob {
    const char *dir;
    const char *const *suffixes;
    void (*convert)(TextBuf *out, TextSpan text);
    uint32_t source;
    int64_t limit_bytes;
} FileJob;
Status files_convert(DocList *docs, const FileJob *job) CHECKED;
// The title of a file: its path below the directory that all files share, without .gz and .txt.
void file_title(char *title, size_t capacity, const FileList *files, size_t index);

// austen.c: R's lazy-load database of character vectors. Every record must be a novel that is known
// by its title.
SourceReader austen_read;
// One record, inflated: R serialisation (XDR, version 2 or 3) of a character vector, joined by
// newlines. E_FORMAT.
Status r_strings(TextBuf *out, const unsigned char *data, size_t bytes, const char *name) CHECKED;

// kjv.c: the bible program's file of windows compressed by LZW; one document a chapter.
SourceReader kjv_read;
// LZW as written by compress(1) in block mode with codes of up to 16 bits, without its 3 header
// bytes. Stops after `expected` bytes of output or at the end of the codes. E_FORMAT: a code that
// cannot be.
Status lzw_decode(TextBuf *out, const unsigned char *data, size_t bytes, size_t expected) CHECKED;

// pod.c: Perl's Plain Old Documentation (perlpodspec); a document a file.
SourceReader pod_read;
void pod_to_text(TextBuf *out, TextSpan pod);

// rst.c, rst_inline.c, rst_table.c: reStructuredText with Sphinx's directives and roles; a document
// a file.
SourceReader rst_read;
void rst_to_text(TextBuf *out, TextSpan rst);
void rst_inline(TextBuf *out, TextSpan text);  // one paragraph: roles, emphasis, links, escapes
// A grid table that starts at lines[0]: its rows as lines, and how many lines it took; 0 when it is
// none.
size_t rst_grid_table(TextBuf *out, const TextSpan *lines, size_t count);

// dictd.c: DICT databases (index of headword, offset, size in base 64; texts); a document an entry.
SourceReader dictd_read;

// sections.c: plain texts cut at their headings. The Jargon File by entry, Debian's history by
// chapter.
SourceReader jargon_read;
SourceReader history_read;

// local.c: the text files of a user's directory, in order. *others: files with other names.
Status local_files(FileList *files, size_t *others, const char *dir) CHECKED;

// sample.c: the text compiled into the program.
Status sample_read(DocList *docs, const char *name, uint32_t source, int64_t limit_bytes) CHECKED;
