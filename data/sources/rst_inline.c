// reStructuredText inside a paragraph (docutils, "reStructuredText Markup Specification", Inline
// Markup; Sphinx documentation, "Roles"): what a reader would see, without the markup.
#include "data/sources/formats.h"

#include <ctype.h>
#include <string.h>

// Longest marked-up span, and longest name of a role: an unmatched mark must not cost a search of
// everything.
enum { SPAN_LIMIT = 1000, ROLE_LIMIT = 100 };

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t';
}

// Markup starts after white space or one of these, and ends before white space or punctuation. What
// is not ASCII counts as punctuation: there are dashes and quotes among it, and letters do not
// touch markup.
static bool is_ascii(char c) {
    return (unsigned char)c < 0x80;
}

static bool may_start(TextSpan text, size_t at) {
    return at == 0 || is_space(text.at[at - 1]) || !is_ascii(text.at[at - 1]) ||
           strchr("'\"([{<-/:", text.at[at - 1]) != NULL;
}

static bool may_end(TextSpan text, size_t after) {
    return after >= text.bytes || is_space(text.at[after]) || !is_ascii(text.at[after]) ||
           strchr("'\")]}>-/:.,;!?\\_", text.at[after]) != NULL;
}

// Where `mark` ends the span whose inside starts at `from`; 0 when it does not.
static size_t span_end(TextSpan text, size_t from, const char *mark) {
    size_t n = strlen(mark);
    // The inside starts and ends with ink, and the mark is not escaped (inside literals nothing
    // is).
    size_t limit = text.bytes - from > SPAN_LIMIT ? from + SPAN_LIMIT : text.bytes;
    if (from >= text.bytes || is_space(text.at[from])) return 0;
    for (size_t at = from + 1; at + n <= limit; at++) {
        if (text.at[at - 1] == '\\' && mark[0] != '`') continue;
        bool here = text.at[at] == mark[0] && memcmp(text.at + at, mark, n) == 0;
        if (here && !is_space(text.at[at - 1]) && may_end(text, at + n)) return at;
    }
    return 0;
}

// Backslash escapes: the next character as it is, a blank after it vanishes.
static void unescaped(TextBuf *out, TextSpan s) {
    for (size_t i = 0; i < s.bytes; i++) {
        if (s.at[i] == '\\' && i + 1 < s.bytes) {
            i++;
            if (is_space(s.at[i])) continue;
        }
        textbuf_char(out, s.at[i]);
    }
}

// "shown text <target>": the text alone.
static TextSpan without_target(TextSpan s) {
    if (s.bytes < 3 || s.at[s.bytes - 1] != '>') return s;
    for (size_t i = s.bytes - 1; i > 0; i--) {
        if (s.at[i] != '<') continue;
        TextSpan shown = span_trim((TextSpan){s.at, i});
        return is_space(s.at[i - 1]) && shown.bytes > 0 ? shown : s;
    }
    return s;
}

// Is the role one of these names?
static bool role_is(TextSpan role, const char *const *names) {
    for (; *names != NULL; names++) {
        if (span_same(role, *names)) return true;
    }
    return false;
}

// A role's text as Sphinx shows it: "~pkg.name" is its last part, "!x" is x, functions get their
// parentheses.
static void role_text(TextBuf *out, TextSpan role, TextSpan text) {
    static const char *const CALLS[] = {"func", "meth", "c:func", "py:func", "py:meth", NULL};
    static const char *const BRACES[] = {"samp", "file", NULL};
    static const struct {
        const char *role, *prefix;
    } NUMBERS[] = {{"pep", "PEP "},   {"PEP", "PEP "}, {"rfc", "RFC "}, {"RFC", "RFC "},
                   {"issue", "bpo-"}, {"gh", "gh-"},   {"cve", "CVE-"}};
    // A role with a title of its own is shown as the title, without any decoration.
    bool titled = without_target(text).bytes != text.bytes;
    text = without_target(text);
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS && !titled; i++) {
        if (span_same(role, NUMBERS[i].role)) textbuf_puts(out, NUMBERS[i].prefix);
    }
    if (!titled && text.bytes > 1 && (text.at[0] == '!' || text.at[0] == '~')) {
        bool last_part = text.at[0] == '~';
        text = (TextSpan){text.at + 1, text.bytes - 1};
        for (size_t i = text.bytes; last_part && i > 1; i--) {
            if (text.at[i - 1] != '.') continue;
            text = (TextSpan){text.at + i, text.bytes - i};
            break;
        }
    }
    if (role_is(role, BRACES)) {
        for (size_t i = 0; i < text.bytes; i++) {
            if (text.at[i] != '{' && text.at[i] != '}') textbuf_char(out, text.at[i]);
        }
        return;
    }
    unescaped(out, text);
    bool call = role_is(role, CALLS) && !titled;
    if (call && text.bytes > 0 && text.at[text.bytes - 1] != ')') textbuf_puts(out, "()");
}

// ":role:`text`" at `at`: how long it is, 0 when it is none.
static size_t role_at(TextBuf *out, TextSpan text, size_t at) {
    size_t i = at + 1, limit = text.bytes - at < ROLE_LIMIT ? text.bytes : at + ROLE_LIMIT;
    while (i < limit && (isalnum((unsigned char)text.at[i]) || strchr(":+._-", text.at[i]))) i++;
    if (i >= limit || text.at[i] != '`' || text.at[i - 1] != ':' || i < at + 3) return 0;
    size_t end = span_end(text, i + 1, "`");
    if (end == 0) return 0;
    role_text(out, (TextSpan){text.at + at + 1, i - at - 2},
              (TextSpan){text.at + i + 1, end - i - 1});
    return end + 1 - at;
}

// "`text <url>`_" or "`text`": how long it is, 0 when it is none.
static size_t reference_at(TextBuf *out, TextSpan text, size_t at) {
    size_t end = span_end(text, at + 1, "`");
    if (end == 0) return 0;
    unescaped(out, without_target((TextSpan){text.at + at + 1, end - at - 1}));
    end++;
    while (end < text.bytes && text.at[end] == '_') end++;
    return end - at;
}

// "*text*", "**text**" or "``text``" at `at`: how long it is, 0 when it is none.
static size_t emphasis_at(TextBuf *out, TextSpan text, size_t at, const char *mark) {
    size_t n = strlen(mark);
    if (text.bytes - at <= n || memcmp(text.at + at, mark, n) != 0) return 0;
    size_t end = span_end(text, at + n, mark);
    if (end == 0) return 0;
    TextSpan inside = {text.at + at + n, end - at - n};
    if (mark[0] == '`') {
        textbuf_add(out, inside.at, inside.bytes);  // literal: nothing inside is markup
    } else {
        unescaped(out, inside);
    }
    return end + n - at;
}

// Whatever markup starts here: its length, or 0 and nothing written.
static size_t markup_at(TextBuf *out, TextSpan text, size_t at) {
    if (!may_start(text, at)) return 0;
    bool doubled = at + 1 < text.bytes && text.at[at + 1] == text.at[at];
    switch (text.at[at]) {
    case '*':
        return emphasis_at(out, text, at, doubled ? "**" : "*");
    case '`':
        return doubled ? emphasis_at(out, text, at, "``") : reference_at(out, text, at);
    default:
        return role_at(out, text, at);
    }
}

// Tries markup at the few characters that can start it; everything else is copied.
void rst_inline(TextBuf *out, TextSpan text) {
    for (size_t at = 0; at < text.bytes;) {
        char c = text.at[at];
        size_t used = c == '*' || c == '`' || c == ':' ? markup_at(out, text, at) : 0;
        if (used > 0) {
            at += used;
        } else if (c == '\\' && at + 1 < text.bytes) {
            if (!is_space(text.at[at + 1])) textbuf_char(out, text.at[at + 1]);
            at += 2;
        } else if (c == ']' && at + 1 < text.bytes && text.at[at + 1] == '_') {
            textbuf_char(out, c);  // a footnote mark: [1]_
            at += 2;
        } else {
            textbuf_char(out, c);
            at++;
        }
    }
}
