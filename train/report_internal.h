// Shared between the files of the report: what is read from a run directory (report_data.c), charts
// as SVG (report_svg.c), the page (report.c), the closing table (cmd_report.c).
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/file.h"
#include "data/data.h"

// --- report_data.c ---
typedef struct Point {
    double x, y;
} Point;
typedef struct Series {  // in the order of steps; every value is finite
    Point *at;
    int count, capacity;
} Series;

enum {
    REPORT_SOURCES = 64,
    REPORT_BARS = 16,
    REPORT_USES = 32,
    REPORT_CURVES = 24,
    REPORT_SAMPLES = 3,
    REPORT_NAME = 64
};
typedef struct ReportSource {
    char name[REPORT_NAME];
    int64_t docs, bytes, tokens, duplicates, held_out_docs;
    double weight;
    Cleaning cleaned;
} ReportSource;
typedef struct Curve {  // of a member of lines that the page knows nothing else about
    char name[REPORT_NAME];
    Series points;
} Curve;
typedef struct Bar {  // bits/byte of a compressor
    char name[REPORT_NAME];
    double value;
} Bar;
typedef struct ReportComm {  // exchanges for one purpose: of a rank (the mean) in all counted steps
    char name[REPORT_NAME];
    double calls, bytes, wait_s, exposed_s;
} ReportComm;
typedef struct Sample {
    char name[REPORT_NAME];
    char *text;  // owned
    size_t bytes;
} Sample;

// Missing numbers are NAN, missing counts -1, missing texts empty or NULL.
typedef struct Report {
    char dir[PATH_BYTES];
    Series loss, bits, rate, norm, speed;  // loss, held-out bits/byte, learning rate, ..., tokens/s
    Curve curve[REPORT_CURVES];            // other numbers of the lines of steps
    int curve_count;
    int64_t steps, tokens_seen;            // of the last line
    double seconds, tokens_per_s;          // sum over steps; all tokens by all seconds
    double nats_per_token, bits_per_byte;  // the last evaluation
    bool is_final;                         // that was made when training had ended
    int64_t torn_lines;                    // lines that could not be read
    int64_t lost_values;                   // that were not finite
    char unreadable[256];  // files that are there, but damaged or out of reach: "a, b"

    ReportSource source[REPORT_SOURCES];
    int source_count;
    double bytes_per_token;
    int64_t holdout_bytes, holdout_tokens, parameters;
    bool embedded_sample;
    char model[256];

    Bar compressor[REPORT_BARS];  // best first
    int compressor_count;
    ReportComm comm[REPORT_USES];  // of the last process that trained
    int comm_count;
    ReportComm comm_between;  // all purposes, between its steps
    int64_t comm_ranks, comm_dp, comm_sp, comm_tp;
    double comm_steps, comm_s;      // steps counted, and their seconds
    Sample sample[REPORT_SAMPLES];  // newest first
    int sample_count;
    char *config;  // the resolved configuration; owned
    char exit_reason[256], exit_status[32];
    int64_t exit_code, planned_steps;
    char damage[512];  // the first value that could not be read
} Report;

// Reads what is there; a missing or damaged piece is no failure. E_IO: no such directory.
Status report__read(Report *r, const char *run_dir) CHECKED;
void report__free(Report *r);
void report__add_comm(ReportComm *sum, const ReportComm *c);
// At most `most` points that keep the smallest and the largest value of each stretch. `out` owns
// its points.
void series__thin(Series *out, const Series *in, int most);
// Mean over a centred stretch of about 1/40 of the points, shorter at both ends.
void series__smooth(Series *out, const Series *in);
void series__free(Series *s);

// --- report_svg.c ---
typedef struct Chart {
    const char *title, *unit;  // unit: "" when none
    int width, height;         // of the drawing, in its own units
    const Series *points;      // the measured values
    const Series *smooth;      // drawn over them, NULL: none
    bool log_scale;            // needs positive values; others are left out
    bool from_zero;            // the value axis begins at 0
    bool dots;                 // points are marked, with their values as tooltips
    const Bar *reference;      // a horizontal line for comparison, NULL: none
    double last_step;          // end of the step axis
} Chart;
void svg__chart(FILE *out, const Chart *c);

// --- report_corpus.c ---
void report__write_corpus(FILE *out, const Report *r);  // nothing when there is no corpus.json

// --- report.c ---
Status report__write_page(const Report *r, char path[PATH_BYTES]) CHECKED;  // tells where
extern const char REPORT_KICKER[];                                          // in every page
void html__text(FILE *out, const char *text,
                size_t bytes);  // escaped; invalid UTF-8 becomes U+FFFD
enum { NUMBER_BYTES = 40 };
void number__count(char out[NUMBER_BYTES], int64_t v);  // "1,234,567"; "-" when negative
void number__short(char out[NUMBER_BYTES],
                   double v);  // "2.70 M", "153 k", "12"; "-" when not finite

// --- rundir_own.c ---
Status report__check(const char *dir,
                     const char *path) CHECKED;  // E_USAGE: the page there is not ours
