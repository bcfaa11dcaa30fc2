// Perl's Plain Old Documentation to text (perlpodspec): paragraphs, commands (=head1, =item, ...),
// formatting codes (C<...>, L<...>, E<...>). What only formatters and indexers read goes: X<>,
// =for, =begin blocks, =encoding.
#include "data/sources/formats.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_NESTING = 16, ENTITY_BYTES = 16 };

// --- formatting codes ---

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// If a code such as "C<" or "C<< " starts here: how many brackets it has, else 0.
static size_t code_opens(TextSpan s) {
    if (s.bytes < 3 || !isupper((unsigned char)s.at[0]) || s.at[1] != '<') return 0;
    size_t n = 1;
    while (n + 1 < s.bytes && s.at[n + 1] == '<') n++;
    // Several brackets need a blank behind them, else the code has one and text starts with '<'.
    return n == 1 || (n + 1 < s.bytes && is_space(s.at[n + 1])) ? n : 1;
}

// A code with several brackets is closed by a blank and as many of them.
static bool code_closes(TextSpan s, size_t at, size_t brackets) {
    if (s.at[at] != '>') return false;
    if (brackets == 1) return true;
    if (at == 0 || !is_space(s.at[at - 1]) || s.bytes - at < brackets) return false;
    for (size_t i = 0; i < brackets; i++) {
        if (s.at[at + i] != '>') return false;
    }
    return true;
}

// The inside of the code that starts at s[0]; returns the length of the whole code. One that is not
// closed extends to the end of the paragraph, as Perl's own parsers have it.
static size_t code_inside(TextSpan s, size_t brackets, TextSpan *inside) {
    size_t stack[MAX_NESTING] = {brackets}, depth = 1, at = 1 + brackets;
    const size_t begin = at;
    while (at < s.bytes) {
        size_t opens = code_opens((TextSpan){s.at + at, s.bytes - at});
        if (opens > 0 && depth < MAX_NESTING) {
            stack[depth++] = opens;
            at += 1 + opens;
        } else if (code_closes(s, at, stack[depth - 1])) {
            size_t n = stack[--depth];
            if (depth == 0) {
                *inside = (TextSpan){s.at + begin, at - begin};
                if (brackets > 1) *inside = span_trim(*inside);
                return at + n;
            }
            at += n;
        } else {
            at++;
        }
    }
    *inside = (TextSpan){s.at + begin, begin < s.bytes ? s.bytes - begin : 0};
    return s.bytes;
}

// E<name>, E<number>, E<0xhex>, E<0octal>.
static void entity(TextBuf *out, TextSpan name) {
    static const struct {
        const char *name;
        uint32_t code;
    } NAMES[] = {{"lt", '<'},      {"gt", '>'},       {"amp", '&'},      {"quot", '"'},
                 {"sol", '/'},     {"verbar", '|'},   {"lchevron", 171}, {"rchevron", 187},
                 {"laquo", 171},   {"raquo", 187},    {"nbsp", ' '},     {"copy", 169},
                 {"reg", 174},     {"eacute", 233},   {"egrave", 232},   {"aacute", 225},
                 {"agrave", 224},  {"auml", 228},     {"ouml", 246},     {"uuml", 252},
                 {"Auml", 196},    {"Ouml", 214},     {"Uuml", 220},     {"szlig", 223},
                 {"oacute", 243},  {"iacute", 237},   {"uacute", 250},   {"ntilde", 241},
                 {"ccedil", 231},  {"aring", 229},    {"oslash", 248},   {"aelig", 230},
                 {"euro", 0x20AC}, {"mdash", 0x2014}, {"ndash", 0x2013}, {"hellip", 0x2026}};
    char text[ENTITY_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)(name.bytes < 15 ? name.bytes : 15), name.at);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (strcmp(NAMES[i].name, text) == 0) {
            textbuf_code_point(out, NAMES[i].code);
            return;
        }
    }
    char *end;
    const char *digits = text[0] == '0' && text[1] == 'x' ? text + 2 : text;
    int base = digits != text ? 16 : text[0] == '0' ? 8 : 10;
    unsigned long code = strtoul(digits, &end, base);
    if (isxdigit((unsigned char)digits[0]) && *end == '\0' && code <= 0x10FFFF) {
        textbuf_code_point(out, (uint32_t)code);
    } else {
        textbuf_add(out, name.at, name.bytes);  // unknown: its name says most
    }
}

static void format(TextBuf *out, TextSpan s, int depth);

// Where `c` stands outside of inner codes and quotes; s.bytes when nowhere.
static size_t find_outside(TextSpan s, char c) {
    bool quoted = false;
    for (size_t at = 0; at < s.bytes;) {
        TextSpan rest = {s.at + at, s.bytes - at}, ignored;
        size_t opens = code_opens(rest);
        if (opens > 0) {
            at += code_inside(rest, opens, &ignored);
            continue;
        }
        if (s.at[at] == '"') quoted = !quoted;
        if (s.at[at] == c && !quoted) return at;
        at++;
    }
    return s.bytes;
}

// Section names may be quoted.
static TextSpan unquote(TextSpan s) {
    s = span_trim(s);
    bool quoted = s.bytes >= 2 && s.at[0] == '"' && s.at[s.bytes - 1] == '"';
    return quoted ? (TextSpan){s.at + 1, s.bytes - 2} : s;
}

// L<text|page>, L<page>, L<page/section>, L</section>, L<"section">, L<http://...>.
static void link(TextBuf *out, TextSpan s, int depth) {
    size_t bar = find_outside(s, '|');
    if (bar < s.bytes) {
        format(out, (TextSpan){s.at, bar}, depth);
        return;
    }
    size_t slash = find_outside(s, '/');
    bool url = slash + 1 < s.bytes && slash > 0 && s.at[slash - 1] == ':' && s.at[slash + 1] == '/';
    if (url || slash == s.bytes) {
        format(out, unquote(s), depth);
        return;
    }
    TextSpan section = unquote((TextSpan){s.at + slash + 1, s.bytes - slash - 1});
    if (slash == 0) {
        format(out, section, depth);
        return;
    }
    textbuf_char(out, '"');
    format(out, section, depth);
    textbuf_puts(out, "\" in ");
    format(out, (TextSpan){s.at, slash}, depth);
}

// Text with its codes resolved; beyond MAX_NESTING they are left as they are.
static void format(TextBuf *out, TextSpan s, int depth) {
    for (size_t at = 0; at < s.bytes;) {
        TextSpan rest = {s.at + at, s.bytes - at}, inside;
        size_t opens = depth < MAX_NESTING ? code_opens(rest) : 0;
        if (opens == 0) {
            textbuf_char(out, s.at[at++]);
            continue;
        }
        at += code_inside(rest, opens, &inside);
        switch (rest.at[0]) {
        case 'X':  // index entry
        case 'Z':  // nothing
            break;
        case 'E':
            entity(out, inside);
            break;
        case 'L':
            link(out, inside, depth + 1);
            break;
        default:  // B I C F S and unknown ones: the text
            format(out, inside, depth + 1);
        }
    }
}

// --- paragraphs ---

typedef struct Pod {
    TextBuf *out;
    bool inside;     // between a command and =cut
    bool hidden;     // inside =begin ... =end
    bool item_open;  // "=item *" waits for its paragraph
} Pod;

// "=name argument", where the argument may start on the next line.
static bool command_is(TextSpan paragraph, const char *name, TextSpan *argument) {
    size_t n = strlen(name);
    if (!span_starts(paragraph, name)) return false;
    if (paragraph.bytes > n && !is_space(paragraph.at[n])) return false;
    *argument = span_trim((TextSpan){paragraph.at + n, paragraph.bytes - n});
    return true;
}

// A paragraph may end in index entries, which leave blanks, or hold nothing else.
static void formatted(Pod *p, TextSpan text) {
    size_t before = p->out->bytes;
    format(p->out, span_trim(text), 0);
    size_t end = p->out->bytes;
    while (end > before && is_space(p->out->text[end - 1])) end--;
    textbuf_cut(p->out, end);
    if (end > before) textbuf_puts(p->out, "\n\n");
}

// Bullets and numbers stand before their text on one line; other items are lines of their own.
static void item(Pod *p, TextSpan argument) {
    size_t digits = 0;
    while (digits < argument.bytes && isdigit((unsigned char)argument.at[digits])) digits++;
    bool numbered =
        digits > 0 && (digits == argument.bytes ||
                       span_same((TextSpan){argument.at + digits, argument.bytes - digits}, "."));
    bool bullet = argument.bytes == 0 || span_same(argument, "*") || span_same(argument, "-");
    if (bullet) {
        textbuf_puts(p->out, "* ");
    } else if (numbered) {
        textbuf_add(p->out, argument.at, digits);
        textbuf_puts(p->out, ". ");
    } else if (argument.at[0] == '*' && argument.bytes > 1 && is_space(argument.at[1])) {
        textbuf_puts(p->out, "* ");
        formatted(p, (TextSpan){argument.at + 1, argument.bytes - 1});
        return;
    } else {
        formatted(p, argument);
        return;
    }
    p->item_open = true;
}

// Acts on a command paragraph.
static void command(Pod *p, TextSpan text) {
    static const char *const HEADINGS[] = {"=head1", "=head2", "=head3",
                                           "=head4", "=head5", "=head6"};
    TextSpan argument;
    if (p->item_open) textbuf_puts(p->out, "\n");  // an item without text
    p->item_open = false;
    if (command_is(text, "=end", &argument)) p->hidden = false;
    if (command_is(text, "=begin", &argument)) p->hidden = true;
    if (p->hidden) return;
    if (command_is(text, "=item", &argument)) item(p, argument);
    for (size_t i = 0; i < sizeof HEADINGS / sizeof *HEADINGS; i++) {
        if (command_is(text, HEADINGS[i], &argument)) formatted(p, argument);
    }
    // =over, =back, =pod, =for, =encoding leave nothing.
}

// Command, verbatim or ordinary: the first character tells.
static void paragraph(Pod *p, TextSpan text) {
    if (text.at[0] == '=' && text.bytes > 1 && isalpha((unsigned char)text.at[1])) {
        TextSpan argument;
        p->inside = !command_is(text, "=cut", &argument);
        if (p->inside) command(p, text);
        return;
    }
    if (!p->inside || p->hidden) return;
    p->item_open = false;
    if (is_space(text.at[0])) {  // verbatim: code
        textbuf_add(p->out, text.at, text.bytes);
        textbuf_puts(p->out, "\n\n");
    } else {
        formatted(p, text);
    }
}

// Cuts the text at blank lines, which is all the structure POD has.
void pod_to_text(TextBuf *out, TextSpan pod) {
    Pod p = {.out = out};
    TextSpan rest = pod, line;
    const char *begin = NULL, *end = NULL;  // of the paragraph being collected
    while (line_next(&rest, &line)) {
        bool blank = span_blank(line);
        if (!blank) {
            if (begin == NULL) begin = line.at;
            end = line.at + line.bytes;
        }
        if (begin != NULL && (blank || rest.bytes == 0)) {
            paragraph(&p, (TextSpan){begin, (size_t)(end - begin)});
            begin = NULL;
        }
    }
}

// --- files ---

Status pod_read(DocList *docs, const char *dir, uint32_t source, int64_t limit_bytes) {
    static const char *const SUFFIXES[] = {".pod", NULL};
    return files_convert(docs, &(FileJob){dir, SUFFIXES, pod_to_text, source, limit_bytes});
}
