// What a user hands over as text, read in one way wherever it is handed over: files of data.sources
// and of `tokenizer train`, the text of `eval`, prompts. Unpacked by content (gzip, xz, zstd),
// decoded by its byte-order mark, refused when it is no text; and normalised as training text was,
// for a model whose config.json says that it was.
#pragma once

#include "data/extract.h"

// --- text.c: files ---

// The file's bytes; a gzip, xz or zstd file is unpacked. malloc'ed, NUL-terminated. E_IO; E_FORMAT:
// damaged, or unpacks to more than 1 GiB.
Status text_read(const char *path, char **text, size_t *bytes) CHECKED;

typedef enum TextKind {
    TEXT_PROSE,
    TEXT_LINES,  // .jsonl, .ndjson: an object a line
    TEXT_JSON    // .json: a list of objects, or objects
} TextKind;
// By the end of the name in upper or lower case, before one of .gz, .xz, .zst. *listed: such files
// of a directory are read (.txt, .md, .jsonl, .ndjson).
TextKind text_kind(const char *path, bool *listed);

// --- encoding.c ---

// What text_decode found. Static strings.
typedef struct TextLook {
    const char *from;     // encoding it was decoded from, NULL: none
    const char *refused;  // what the bytes look like instead of text, NULL: they are text
} TextLook;
// UTF-16 and UTF-32 with a byte-order mark become UTF-8 (*text is freed and replaced). All else
// must be UTF-8 but for a share of max_invalid of its bytes, and hold few control characters; it
// stays as it is, with the mark of UTF-8 if it has one. INFINITY: whatever has no mark of UTF-16 or
// UTF-32 stays. E_FORMAT with `name`, what it looks like and how to convert it, and look->refused.
Status text_decode(char **text, size_t *bytes, TextLook *look, double max_invalid,
                   const char *name) CHECKED;
// The text behind the byte-order mark of UTF-8, if there is one.
TextSpan text_skip_mark(TextSpan text);
