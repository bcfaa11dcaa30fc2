// Shared between the files of this folder.
#pragma once

#include "base/own.h"
#include "base/pack.h"
#include "checkpoints/checkpoint.h"

// Checkpoints keep the exact bits of `real`.
#ifdef STERNA_F64
static const Dtype DTYPE_REAL = DTYPE_F64;
#else
static const Dtype DTYPE_REAL = DTYPE_F32;
#endif

// --- dtype.c ---
bool dtype__parse(Dtype *d, const char *name);  // false: none of ours
bool dtype__is_float(Dtype d);
double dtype__value(const void *at, Dtype d);  // exact; `at` need not be aligned
// The place of the first value that is not finite, or would not be after narrowing to d; count:
// none.
size_t reals__outside(const real *x, Dtype d, size_t count);
// `bytes` need not be aligned. Narrowing rounds to nearest even; overflow becomes infinity, NaN
// stays NaN: whoever reads or writes a file asks reals__outside.
void reals__decode(real *out, const void *bytes, Dtype d, size_t count);
void reals__encode(void *bytes, const real *in, Dtype d, size_t count);

// --- finite.c: refusals, E_DIVERGED ---
// `value` of this element of t is not finite, or not in the range of d. `what` names the file and
// its fate.
Status value__refuse(const char *what, const StTensor *t, uint64_t element, double value,
                     Dtype d) CHECKED;
// Every stored value is finite, in the type it is stored in. Integers are.
Status tensor__check(const StFile *f, const StTensor *t) CHECKED;
// The elements that the slice holds.
Status slice__check(const char *what, const Slice *s) CHECKED;
StTensor slice__tensor(
    const Slice *s);  // its global tensor, zeroed behind the name so that its bytes can be hashed

// --- safetensors.c ---
const char *st__path(const StFile *f);
const void *st__header(const StFile *f,
                       size_t *bytes);     // length field and JSON text, as in the file
uint64_t st__elements(const StTensor *t);  // of a checked or sane shape
// The slice's runs, one after another; the slice must lie in the tensor.
Status st__read_runs(const StFile *f, const StTensor *t, const Slice *s) CHECKED;
bool file__is_plain(const char *name);  // a name inside its directory, no way out of it
void shape__text(char *out, size_t capacity, const int64_t *dim, int ndim);  // "[4, 3]"

// --- st_write.c: a file written piece by piece, in the order of its header ---
// All values are finite in the type that they will be written in; else E_DIVERGED. Integers are.
Status source__check(const char *what, const StSource *src) CHECKED;
typedef struct StWriter {
    int fd;                // -1: not open
    uint64_t left;         // data bytes still to come
    uint64_t file_bytes;   // whole file
    uint64_t header_hash;  // XXH3-64 of the header, length field included
    char path[PATH_BYTES];
} StWriter;
// Fills begin and bytes of each tensor and writes the header, to a file that is not there yet.
Status stwriter__open(StWriter *w, const char *path, StTensor *tensors, int count) CHECKED;
// The same, to an open file, which the writer takes; `path` is for messages.
Status stwriter__begin(StWriter *w, int fd, const char *path, StTensor *tensors, int count) CHECKED;
// A whole file, on the disk but not in its place yet. On failure, too, the draft is to be dropped.
Status st__draft(Draft *d, const char *path, const StSource *src, int count) CHECKED;
Status stwriter__data(StWriter *w, const void *data, size_t bytes) CHECKED;
Status stwriter__sync(StWriter *w) CHECKED;  // all data must have come; fsync, close
void stwriter__close(StWriter *w);           // gives up; accepts a closed one
// Room for one name is tested before a path is put together.
Status path__check(const char *dir) CHECKED;

// --- manifest.c ---
extern const char MANIFEST_FILE[];
enum { FILE_NAME_BYTES = 200 };
typedef struct FileRecord {
    char file[FILE_NAME_BYTES];
    uint64_t bytes, header_hash;
    uint64_t *tensor_hash;  // in file order; owned
    int tensor_count;
} FileRecord;
typedef struct FileTable {
    FileRecord *files;
    int count;
    uint64_t hash;  // of the manifest file
} FileTable;
// layouts name the tensors of each file, for people who read the manifest.
Status manifest__write(const char *step_dir, const Manifest *m, const FileTable *files,
                       const CkptPart *parts) CHECKED;
// E_MISSING: no such file. E_NEWER, E_FORMAT: as it says. E_USAGE: under the name of another step.
Status manifest__read(const char *step_dir, Manifest *m, FileTable *files) CHECKED;
void filetable__free(FileTable *files);
Status files__look(const char *step_dir,
                   const FileTable *files) CHECKED;  // E_MISSING: one is not there
// Opens every file of the table, and hashes the headers and each tensor whose running number is
// `rank` modulo `size`. E_FORMAT: damaged. E_DIVERGED: whole, but a value is not finite.
Status files__verify(const char *step_dir, const FileTable *files, int rank, int size) CHECKED;

// --- steps.c: the directories below ckpt_dir ---
enum { STEP_NAME_BYTES = 40 };
typedef struct StepList {
    int64_t *steps;  // newest first
    int count;
} StepList;
void step__name(char out[STEP_NAME_BYTES], int64_t step, const char *suffix);
int64_t step__of_dir(
    const char *dir);  // the step that the last part of the path names, with any suffix; -1: none
Status steps__list(const char *ckpt_dir,
                   StepList *list) CHECKED;  // ours alone; no directory: empty
void steps__free(StepList *list);
// Clears what an interrupted save left: step_N.tmp is removed, step_N.old is put back when step_N
// is missing.
Status steps__recover(const char *ckpt_dir) CHECKED;
Status steps__publish(const char *ckpt_dir, int64_t step) CHECKED;  // step_N.tmp -> step_N
void steps__set_aside(const char *ckpt_dir, int64_t step);          // step_N -> step_N.bad
void steps__prune(const char *ckpt_dir, int64_t newest, int keep);
Status steps__take(const char *path)
    CHECKED;  // makes the directory of a step that is to be written, marked as ours
void steps__discard(
    const char *path);  // removes a step if it is ours; keeps the kept error, warns on failure
