// How many threads a rank has, and which work is worth them.
//
// The number depends on the machine and the launch alone (base/cores.h), never on load: large
// products are cut into as many panels, so it decides about bits. A region takes all threads or
// none, as teams of changing size would start and end threads.
#pragma once

#include <omp.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cores.h"

// Work below these is done by one thread. Where a core is shared, a team waits for the thread that
// is not running: thousands of small regions then cost more than all they gain alone
// (docs/results.md, "Threads").
enum {
    ELEMENTS_FED = 1 << 16,  // elements a thread must have of work that reads and writes each once
    PRODUCTS_LEAST = 1 << 20,  // multiply-adds of a product
};

// Whether so many elements feed all threads.
static inline bool feeds_threads(size_t elements) {
    return elements >= (size_t)ELEMENTS_FED * (size_t)omp_get_max_threads();
}
static inline bool worth_threads(int rows, int cols) {
    return feeds_threads((size_t)rows * (size_t)cols);
}
// The same for matrix products and their like, whose elements are used many times.
static inline bool products_feed_threads(double multiply_adds) {
    return multiply_adds > PRODUCTS_LEAST;
}

// OpenMP reads when it is loaded how long idle threads spin: by default milliseconds, in which
// nobody else can use the core, another rank or the thread that is waited for included. Where
// nothing is set and there will be several threads, this sets a time about as long as waking a
// thread takes. True: the program must start again.
bool threads_limit_spinning(void);

// The threads of process `mine` among all[count], those on its machine: their share of the cores,
// unless the user has set OMP_NUM_THREADS. Set for all that follows.
void threads_choose(const Cores *all, int count, int mine);
// The same for a process on its own, or for each of `ranks` processes that are bound to no core.
void threads_choose_alone(int ranks);
int threads_chosen(void);  // what OpenMP uses
// "2 a rank (4 cores, 2 ranks)": of those on this machine, as it was chosen last. Valid until the
// next call.
const char *threads_text(void);
// What is wrong with the number that the user set, NULL: nothing.
const char *threads_complaint(void);
