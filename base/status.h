// Errors. A function that can fail because of the world returns a Status; the message and its hint
// are kept per thread until the program prints them once. A broken invariant is a bug: ASSERT,
// never a Status.
#pragma once

#include <stdbool.h>

// name, process exit code, meaning (explained in docs/errors.md). Of several ranks the later row
// wins: that a file cannot be read (E_IO) says less about it than that it is damaged (E_FORMAT),
// and forbids more.
#define STATUS_TABLE(X)                                                                            \
    X(OK, 0, "success")                                                                            \
    X(E_USAGE, 64, "wrong command line or configuration")                                          \
    X(E_FORMAT, 65, "malformed or corrupt input data")                                             \
    X(E_NEWER, 65, "written by a newer version of this program")                                   \
    X(E_LAUNCH, 69, "launcher, ranks or machine do not fit the request")                           \
    X(E_BUG, 70, "internal error: please report")                                                  \
    X(E_NOMEM, 71, "out of memory")                                                                \
    X(E_NETWORK, 74, "the network or an archive is out of reach")                                  \
    X(E_MISSING, 74, "a file is not there")                                                        \
    X(E_IO, 74, "a file could not be read or written")                                             \
    X(E_STOPPED, 75, "stopped on request: run again to go on")                                     \
    X(E_DIVERGED, 76, "the numerics failed: a value is not finite")

#define STATUS_ENUM(name, code, text) name,
typedef enum { STATUS_TABLE(STATUS_ENUM) STATUS_COUNT } Status;
#undef STATUS_ENUM

#define CHECKED __attribute__((warn_unused_result))

int status_exit_code(Status st);
bool status_joins(
    Status st);  // its exit code is that of the row before: one entry in lists of codes
const char *status_name(Status st);
const char *status_text(Status st);

// Records the calling thread's error: a printf message and what the user can do about it. Returns
// st.
Status err_set(Status st, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Puts "context: " in front of the kept message. Returns st.
Status err_context(Status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *err_message(void);  // "" when none; valid until the next err_* call of this thread
const char *err_hint(void);
void err_clear(void);

#define FAIL(status, hint, ...) return err_set(status, hint, __VA_ARGS__)
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        Status st_ = (expr);                                                                       \
        if (st_ != OK) return st_;                                                                 \
    } while (0)
// For functions with one `done:` label: needs `Status st = OK;` in scope.
#define TRY_GOTO(expr)                                                                             \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != OK) goto done;                                                                   \
    } while (0)

// Called by a failed ASSERT after the message is printed; train sets it to MPI_Abort. Never
// returns.
extern void (*panic_hook)(int exit_code);
_Noreturn void panic(const char *file, int line, const char *what);
#define ASSERT(cond) ((cond) ? (void)0 : panic(__FILE__, __LINE__, #cond))
