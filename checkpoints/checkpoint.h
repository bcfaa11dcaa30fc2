// Checkpoints: a directory of safetensors files with global shapes and Hugging Face names, and
// manifest.msgpack. Written to step_N.tmp, fsync, manifest last, rename; the newest valid one wins,
// collectively.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "parallel/mesh.h"
#include "tensor/params.h"

typedef enum { DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16, DTYPE_I64, DTYPE_I32 } Dtype;
size_t dtype_bytes(Dtype d);
const char *dtype_name(Dtype d);  // as in safetensors: "F32"

// --- safetensors.c: hardened reader, writer. All errors E_FORMAT with file, tensor and cause ---
typedef struct StTensor {
    char name[160];
    Dtype dtype;
    int ndim;
    int64_t dim[8];
    uint64_t begin, bytes;  // in the data section
} StTensor;
typedef struct StFile StFile;  // a mapped file
Status st_open(StFile **f, const char *path) CHECKED;
void st_close(StFile *f);
int st_count(const StFile *f);
const StTensor *st_tensor(const StFile *f, int i);
const StTensor *st_find(const StFile *f, const char *name);
const void *st_data(const StFile *f, const StTensor *t);
// Elements [begin, begin+count) converted to real. I64/I32 refuse. E_DIVERGED: one is not finite,
// or not in a real's range.
Status st_read_reals(const StFile *f, const StTensor *t, real *out, uint64_t begin,
                     uint64_t count) CHECKED;
// The same, and whatever it is: for comparisons.
Status st_peek_reals(const StFile *f, const StTensor *t, real *out, uint64_t begin,
                     uint64_t count) CHECKED;
// Writes name, shape, dtype and data in the given order; metadata {"format":"pt"} as Hugging Face
// writes it. Byte layout is deterministic. data: reals, converted (round to nearest even) to the
// tensor's dtype; I64: int64_t. E_DIVERGED: a real is not finite, or would not be in the tensor's
// type; `path` is as it was.
typedef struct StSource {
    StTensor t;        // begin is filled in
    const void *data;  // whole tensor: reals for float types, int64_t for I64
} StSource;
Status st_write(const char *path, const StSource *src, int count) CHECKED;

// --- save.c / load.c ---
// A piece of a tensor held by this rank: runs of elements of the row-major global tensor at a fixed
// distance. A whole tensor, a block of rows, a flat range: one run. A block of columns: a run a
// row. A block of rows in each of four sections: four runs.
typedef struct Slice {
    const char *tensor;  // global name, borrowed
    int ndim;
    int dim[3];
    uint64_t begin;   // of the first run
    uint64_t run;     // elements of a run
    uint64_t stride;  // from the begin of a run to that of the next, at least `run`; any value when
                      // there is one
    uint64_t runs;    // no runs, or runs of no elements: nothing is held
    real *data;       // (runs, run), dense
} Slice;
static inline uint64_t slice_elements(const Slice *s) {
    return s->runs * s->run;
}
// One run of count elements of the tensor that `layout` names.
Slice slice_range(const Slice *layout, uint64_t begin, uint64_t count, real *data);
// Elements [begin, begin + count) of the slice's own (runs, run) as slices of the global tensor;
// returns how many, at most CUT_SLICES: the rest of a run, whole runs, the start of a run.
enum { CUT_SLICES = 3 };
int slice_cut(Slice out[CUT_SLICES], const Slice *s, uint64_t begin, uint64_t count);
typedef struct SliceTable {
    Slice *slices;
    int count;
} SliceTable;

typedef struct Manifest {
    int version;  // of the format, 0: the first; 2: the state names an objective
    int64_t step;
    int dp, sp, tp;
    char *config;  // config_dump text; owned by whoever loaded or set it
    char *state;   // train's own msgpack blob: counters, rng, loader state; owned likewise
    size_t state_bytes;
    Hash128 corpus, tokenizer;
} Manifest;
void manifest_free(Manifest *m);

typedef struct CkptPart {  // one safetensors file
    const char *file;      // "model.safetensors"
    SliceTable mine;       // what this rank contributes / wants
    const Slice *layout;   // every tensor whole (data NULL), same on all ranks, in file order
    int layout_count;
} CkptPart;

// Collective(world). Part i is written by rank i % size, which receives the others' slices; it
// needs memory for the largest tensor and the largest slice of several runs. Ranks may hold the
// same elements, with the same values; an element without a holder: E_BUG. A failure anywhere (full
// disk, read-only) leaves the previous checkpoints intact and removes the .tmp. E_DIVERGED: a
// number that some rank holds is not finite; the message names tensor and element.
Status checkpoint_save(const Mesh *mesh, const char *ckpt_dir, const CkptPart *parts,
                       int part_count, const Manifest *m, int keep) CHECKED;
// Collective. Makes ckpt_dir, and writes a file there and removes it, once a node: better before
// the first step than at the first save.
Status checkpoint_prepare(const Mesh *mesh, const char *ckpt_dir) CHECKED;
// Not collective. Newest step of ours by name, whole or not; -1: none.
Status checkpoint_newest(const char *ckpt_dir, int64_t *step) CHECKED;
// Not collective. E_USAGE when a directory that is not ours has a name that the next saves need.
Status checkpoint_check_places(const char *ckpt_dir) CHECKED;
// Collective. Newest step whose manifest and checksums are valid on all ranks; *step = -1 when
// there is none at all. Damaged ones, and those with a value that is not finite, are reported by
// log_warn, passed over and renamed; when all are: E_FORMAT or E_DIVERGED, for starting over would
// bury them. One that cannot be read (E_IO, E_NOMEM) was written by a newer version (E_NEWER) or
// lies under another step's name (E_USAGE) ends the search, and nothing is renamed.
Status checkpoint_find(const Mesh *mesh, const char *ckpt_dir, int64_t *step) CHECKED;
// Collective. Fills the slices; shapes must match, else E_FORMAT. F32 is widened where a real is a
// double, with a line in the log; F64 is not narrowed: E_USAGE.
Status checkpoint_load(const Mesh *mesh, const char *ckpt_dir, int64_t step, const CkptPart *parts,
                       int part_count, Manifest *m) CHECKED;
// Where a step lies, or would.
void checkpoint_step_dir(char path[PATH_BYTES], const char *ckpt_dir, int64_t step);
// Not collective: reads manifest only; verifies every checksum, then that all values are finite
// (E_DIVERGED). A directory named after another step than its manifest's: E_FORMAT.
Status checkpoint_manifest(const char *step_dir, Manifest *m) CHECKED;
Status checkpoint_verify(const char *step_dir) CHECKED;

// --- hf_import.c / hf_export.c: a Hugging Face directory's tensors <-> a ParamSet, by row name ---
// model.safetensors, or model.safetensors.index.json and its shards. Missing, extra or misshapen
// tensors: E_FORMAT. lm_head.weight may be absent when `tied`; when present and tied it must equal
// the embedding. E_DIVERGED: a value of this rank's share is not finite. A warning of rank 0 tells
// of values that had to be rounded to a real.
Status hf_import(ParamSet *ps, const char *dir, bool tied, Dtype *stored) CHECKED;
// The last of these conditions alone, before anything large is done with a tied model. E_FORMAT.
Status hf_check_tied(const char *dir) CHECKED;
// What hf_import would refuse, without reading a weight: `ps` may have no data.
Status hf_check(const ParamSet *ps, const char *dir, bool tied) CHECKED;
// Directories of models that we write, marked. check: E_USAGE when take would refuse, because files
// of a model lie there that are not ours. take: makes the directory. adopt: marks one that an
// earlier version made.
Status hf_dir_check(const char *dir) CHECKED;
Status hf_dir_take(const char *dir) CHECKED;
Status hf_dir_adopt(const char *dir) CHECKED;
// Whether `path` is, or would become, a file of the model in `dir`.
bool hf_dir_holds(const char *dir, const char *path);
// Takes the directory. max_shard_bytes 0: one file. The index is written when there are several.
// E_DIVERGED: a value is not finite, or would not be in `dtype`; then nothing is written.
Status hf_export(const ParamSet *ps, const char *dir, Dtype dtype,
                 uint64_t max_shard_bytes) CHECKED;
// Not collective. `path` becomes the model.safetensors of a checkpoint: byte for byte what
// hf_export would write in one file of `real`, without the weights in anyone's memory. The
// checksums are verified first; on failure `path` is as it was. *stored: the type of the weights,
// that of the build which saved them.
Status checkpoint_export_weights(const char *ckpt_dir, int64_t step, const char *path,
                                 Dtype *stored) CHECKED;
