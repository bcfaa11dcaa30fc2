// The kept error of each thread, the table of statuses, and the end of the program on a bug.
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { MESSAGE_BYTES = 2048, HINT_BYTES = 512 };

// Fixed arrays: an error about memory must not need memory.
static _Thread_local char message[MESSAGE_BYTES], hint[HINT_BYTES];

static const struct {
    const char *name, *text;
    int code;
} STATUSES[] = {
#define STATUS_ROW(name, code, text) {#name, text, code},
    STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
};

int status_exit_code(Status st) {
    return STATUSES[st].code;
}
bool status_joins(Status st) {
    return st != OK && STATUSES[st].code == STATUSES[st - 1].code;
}
const char *status_name(Status st) {
    return STATUSES[st].name;
}
const char *status_text(Status st) {
    return STATUSES[st].text;
}

Status err_set(Status st, const char *what_to_do, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char text[MESSAGE_BYTES];  // the arguments may point into the kept message
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_mask(text, strlen(text));
    memcpy(message, text, sizeof message);
    snprintf(text, HINT_BYTES, "%s", what_to_do == NULL ? "" : what_to_do);
    text_mask(text, strlen(text));
    memcpy(hint, text, HINT_BYTES);
    return st;
}

// The innermost message is the most precise one, so context is cut last: it goes in front.
Status err_context(Status st, const char *fmt, ...) {
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text) {
        snprintf(text + n, sizeof text - (size_t)n, ": %s", message);
    }
    text_mask(text, strlen(text));
    memcpy(message, text, sizeof message);
    return st;
}

const char *err_message(void) {
    return message;
}
const char *err_hint(void) {
    return hint;
}

void err_clear(void) {
    message[0] = '\0';
    hint[0] = '\0';
}

// _Exit, not exit: after a bug, handlers of libraries can only do harm.
static void panic_exit(int code) {
    _Exit(code);
}
void (*panic_hook)(int exit_code) = panic_exit;

_Noreturn void panic(const char *file, int line, const char *what) {
    fprintf(stderr,
            "sterna: bug at %s:%d: %s\n  hint: please report this with the command you ran\n", file,
            line, what);
    fflush(stderr);
    panic_hook(status_exit_code(E_BUG));
    _Exit(status_exit_code(E_BUG));
}
