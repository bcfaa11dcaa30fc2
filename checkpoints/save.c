// Saving: one owner rank a file, tensors travel to it one at a time.
//
// Every rank first declares which elements it holds (a table of pieces, gathered everywhere), so
// that all know who sends what and nothing is negotiated later. Then the owner walks the file's
// tensors in order: it receives the pieces of one tensor, hashes it, writes it, and goes on. A
// piece of one run is received where it belongs; one of several is a single message too, received
// beside the tensor and spread. So memory is bounded by the largest tensor and the largest such
// piece. A failing disk does not stop the exchange: the owner goes on receiving, and the failure is
// agreed at the end of the phase.
#include "checkpoints/internal.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"

#include <stdlib.h>
#include <string.h>

enum { TAG_PIECE = 700 };

// A slice that holds something, its tensor by its place in the file. Runs that touch are one run.
typedef struct Piece {
    uint64_t tensor, begin, run, stride, runs;
    const real *data;  // has a meaning on the rank that declared it
} Piece;

// One file of the checkpoint, as this rank sees it.
typedef struct PartPlan {
    const CkptPart *part;
    int owner;
    Piece *mine;
    size_t mine_count;
    Piece *all;       // of every rank, each rank's in tensor order
    size_t *offsets;  // [size+1] into all
    FileRecord record;
} PartPlan;

typedef struct Save {
    const Mesh *mesh;
    const char *ckpt_dir;
    const Manifest *manifest;
    char tmp_dir[PATH_BYTES];
    PartPlan *plans;
    int count;
    real *buffer;   // one tensor; owners only
    real *landing;  // one piece of several runs; owners only
} Save;

static size_t tensor_elements(const Slice *layout) {
    size_t n = 1;
    for (int i = 0; i < layout->ndim; i++) n *= (size_t)layout->dim[i];
    return n;
}

static size_t piece_elements(const Piece *p) {
    return (size_t)(p->runs * p->run);
}

static int compare_pieces(const void *a, const void *b) {
    const Piece *x = a, *y = b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// --- plan ---

// The slice's place in the file's order; searched from the last one found, for slices come in order
// mostly.
static Status layout_find(const CkptPart *part, const Slice *s, int *at) {
    for (int i = 0; i < part->layout_count; i++) {
        int candidate = (*at + i) % part->layout_count;
        if (strcmp(part->layout[candidate].tensor, s->tensor) == 0) {
            *at = candidate;
            return OK;
        }
    }
    FAIL(E_BUG, "please report this", "checkpoint %s: tensor '%s' is in no layout", part->file,
         s->tensor);
}

// No sum or product is formed before it is known to lie in the tensor.
static Piece piece_of(const Slice *s, int tensor, uint64_t whole) {
    ASSERT(s->run <= whole && s->begin <= whole - s->run);
    uint64_t room = whole - s->run - s->begin;  // for the begin of the last run
    ASSERT(s->runs == 1 || (s->stride >= s->run && s->stride <= room / (s->runs - 1)));
    Piece p = {(uint64_t)tensor, s->begin, s->run, s->stride, s->runs, s->data};
    if (p.runs > 1 && p.stride == p.run) {
        p.run *= p.runs;
        p.runs = 1;
    }
    return p;
}

// Slices become pieces in the order of the file. Empty ones vanish: nothing is sent for them. A
// number that is not finite ends the save here: an older checkpoint must stay the newest.
static Status plan_mine(PartPlan *p) {
    const SliceTable *table = &p->part->mine;
    p->mine = calloc((size_t)table->count + 1, sizeof *p->mine);
    p->record.tensor_hash =
        calloc((size_t)p->part->layout_count + 1, sizeof *p->record.tensor_hash);
    if (p->mine == NULL || p->record.tensor_hash == NULL) {
        FAIL(E_NOMEM, "free memory on this machine", "no memory to plan checkpoint %s",
             p->part->file);
    }
    for (int i = 0, at = 0; i < table->count; i++) {
        const Slice *s = &table->slices[i];
        if (s->runs == 0 || s->run == 0) continue;
        TRY(slice__check(p->part->file, s));
        TRY(layout_find(p->part, s, &at));
        p->mine[p->mine_count++] = piece_of(s, at, tensor_elements(&p->part->layout[at]));
    }
    if (p->mine_count > 0) qsort(p->mine, p->mine_count, sizeof *p->mine, compare_pieces);
    return OK;
}

// Names and shapes of all files. Ranks that disagree would wait for pieces that never come.
static uint64_t layout_hash(const Save *s) {
    uint64_t hash = 0;
    for (int i = 0; i < s->count; i++) {
        const CkptPart *part = s->plans[i].part;
        for (int t = 0; t < part->layout_count; t++) {
            StTensor tensor = slice__tensor(&part->layout[t]);
            uint64_t pair[2] = {hash, hash64(&tensor, sizeof tensor)};
            hash = hash64(pair, sizeof pair);
        }
    }
    return hash;
}

// Rank 0 makes the directory; the others only look at their own slices.
static Status save_prepare(Save *s, const CkptPart *parts) {
    TRY(path__check(s->ckpt_dir));
    s->plans = calloc((size_t)s->count + 1, sizeof *s->plans);
    if (s->plans == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory to plan a checkpoint");
    for (int i = 0; i < s->count; i++) {
        PartPlan *p = &s->plans[i];
        *p = (PartPlan){.part = &parts[i], .owner = i % s->mesh->size};
        ASSERT(file__is_plain(parts[i].file));
        snprintf(p->record.file, sizeof p->record.file, "%s", parts[i].file);
        p->record.tensor_count = parts[i].layout_count;
        TRY(plan_mine(p));
    }
    char name[STEP_NAME_BYTES];
    step__name(name, s->manifest->step, ".tmp");
    path_join(s->tmp_dir, s->ckpt_dir, name);
    if (s->mesh->rank != 0) return OK;
    TRY(steps__recover(s->ckpt_dir));
    return steps__take(s->tmp_dir);
}

typedef struct Interval {
    uint64_t begin, end;
} Interval;

static int compare_intervals(const void *a, const void *b) {
    const Interval *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// The first element from 0 on that is in none of the intervals.
static uint64_t first_hole(Interval *intervals, size_t count) {
    if (count > 0) qsort(intervals, count, sizeof *intervals, compare_intervals);
    uint64_t covered = 0;
    for (size_t i = 0; i < count && intervals[i].begin <= covered; i++) {
        if (intervals[i].end > covered) covered = intervals[i].end;
    }
    return covered;
}

// One tensor and all pieces of it. The runs are laid open only where no rank holds the whole, and
// only those of one tensor at a time: a block of columns has as many as the tensor has rows.
static Status check_tensor(const PartPlan *p, int tensor, const Piece *pieces, size_t count) {
    const Slice *layout = &p->part->layout[tensor];
    uint64_t whole = tensor_elements(layout);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].run == whole) return OK;
        n += (size_t)pieces[i].runs;
    }
    Interval *intervals = malloc((n + 1) * sizeof *intervals);
    if (intervals == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory to plan a checkpoint");
    n = 0;
    for (size_t i = 0; i < count; i++) {
        for (uint64_t r = 0; r < pieces[i].runs; r++) {
            uint64_t begin = pieces[i].begin + r * pieces[i].stride;
            intervals[n++] = (Interval){begin, begin + pieces[i].run};
        }
    }
    uint64_t hole = first_hole(intervals, n);
    free(intervals);
    if (hole >= whole) return OK;
    FAIL(E_BUG, "please report this", "checkpoint %s: no rank holds element %llu of '%s'",
         p->part->file, (unsigned long long)hole, layout->tensor);
}

// Every element of every tensor must have a holder. All ranks have the same table, so each looks
// into its share of the tensors; the agreement that follows makes one verdict of theirs.
static Status check_coverage(const Save *s, const PartPlan *p) {
    size_t count = p->offsets[s->mesh->size];
    Piece *sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory to plan a checkpoint");
    if (count > 0) {
        memcpy(sorted, p->all, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, compare_pieces);
    }
    Status st = OK;
    size_t at = 0;
    for (int t = 0; t < p->part->layout_count && st == OK; t++) {
        size_t first = at;
        while (at < count && sorted[at].tensor == (uint64_t)t) at++;
        if (t % s->mesh->size == s->mesh->rank) st = check_tensor(p, t, sorted + first, at - first);
    }
    free(sorted);
    return st;
}

// Collective. After a failure the plan is empty, and the caller agrees.
static Status gather_pieces(Save *s, PartPlan *p) {
    int size = s->mesh->size;
    p->offsets = calloc((size_t)size + 1, sizeof *p->offsets);
    size_t *bytes = calloc((size_t)size + 1, sizeof *bytes);
    ASSERT(p->offsets != NULL &&
           bytes != NULL);  // a few bytes a rank: nothing that could be recovered from
    char *all = NULL;
    Status st =
        comm_allgather_bytes(s->mesh->world, p->mine, p->mine_count * sizeof *p->mine, &all, bytes);
    p->all = (Piece *)(void *)all;
    for (int r = 0; r <= size; r++) p->offsets[r] = bytes[r] / sizeof(Piece);
    free(bytes);
    return st;
}

// Elements of the largest tensor this rank has to put together, and of the largest piece that it
// cannot receive in place.
static void buffer_elements(const Save *s, size_t *tensor, size_t *piece) {
    *tensor = *piece = 0;
    for (int i = 0; i < s->count; i++) {
        const PartPlan *p = &s->plans[i];
        if (p->owner != s->mesh->rank) continue;
        for (int t = 0; t < p->part->layout_count; t++) {
            size_t n = tensor_elements(&p->part->layout[t]);
            if (n > *tensor) *tensor = n;
        }
        for (size_t k = 0; k < p->offsets[s->mesh->size]; k++) {
            bool own = k >= p->offsets[s->mesh->rank] && k < p->offsets[s->mesh->rank + 1];
            size_t n = own || p->all[k].runs == 1 ? 0 : piece_elements(&p->all[k]);
            if (n > *piece) *piece = n;
        }
    }
}

static Status make_buffers(Save *s) {
    size_t tensor, piece;
    buffer_elements(s, &tensor, &piece);
    s->buffer = malloc((tensor + 1) * sizeof *s->buffer);
    s->landing = malloc((piece + 1) * sizeof *s->landing);
    if (s->buffer != NULL && s->landing != NULL) return OK;
    FAIL(E_NOMEM, "lower train.micro_rows or use more nodes",
         "no memory for the largest tensor of a checkpoint (%zu bytes)",
         (tensor + piece) * sizeof *s->buffer);
}

// Collective.
// Every rank takes part in each gather, whatever failed before; one agreement ends the phase.
static Status save_plan(Save *s) {
    comm_check_same(s->mesh->world, layout_hash(s), "the layout of the checkpoint's files");
    Status st = OK;
    for (int i = 0; i < s->count; i++) {
        Status gathered = gather_pieces(s, &s->plans[i]);
        if (st == OK) st = gathered;
        if (st == OK) st = check_coverage(s, &s->plans[i]);
    }
    if (st == OK) st = make_buffers(s);
    return agree(st, s->mesh->world);
}

// --- exchange and write ---

// Blocking, in the order in which the owner asks: by tensor, then by place.
static void send_pieces(const Save *s, const PartPlan *p) {
    for (size_t i = 0; i < p->mine_count; i++) {
        const Piece *piece = &p->mine[i];
        comm_send(s->mesh->world, piece->data, piece_elements(piece) * sizeof(real), p->owner,
                  TAG_PIECE);
    }
}

// Dense elements to their runs in the buffer.
static void spread_piece(const Save *s, const Piece *piece, const real *dense) {
    for (uint64_t i = 0; i < piece->runs; i++) {
        memcpy(s->buffer + piece->begin + i * piece->stride, dense + i * piece->run,
               (size_t)piece->run * sizeof(real));
    }
}

static void receive_piece(const Save *s, const Piece *piece, int from) {
    real *to = piece->runs == 1 ? s->buffer + piece->begin : s->landing;
    comm_recv(s->mesh->world, to, piece_elements(piece) * sizeof(real), from, TAG_PIECE);
    if (to == s->landing) spread_piece(s, piece, to);
}

// The whole tensor: our own memory when we hold it all and nobody else does, else the filled
// buffer.
static const real *receive_tensor(const Save *s, const PartPlan *p, size_t *cursor,
                                  uint64_t tensor) {
    size_t whole = tensor_elements(&p->part->layout[tensor]), pieces = 0;
    const real *own = NULL;
    for (int r = 0; r < s->mesh->size; r++) {
        for (; cursor[r] < p->offsets[r + 1] && p->all[cursor[r]].tensor == tensor; cursor[r]++) {
            const Piece *piece = &p->all[cursor[r]];
            pieces++;
            if (r != s->mesh->rank)
                receive_piece(s, piece, r);
            else if (piece->run == whole)
                own = piece->data;
            else
                spread_piece(s, piece, piece->data);
        }
    }
    if (own != NULL && pieces > 1) memcpy(s->buffer, own, whole * sizeof(real));
    return own != NULL ? own : s->buffer;
}

// Hashed from memory, before the disk could change a bit of it.
static Status write_tensor(StWriter *w, PartPlan *p, int tensor, const real *data) {
    size_t bytes = tensor_elements(&p->part->layout[tensor]) * sizeof(real);
    p->record.tensor_hash[tensor] = hash64(data, bytes);
    return stwriter__data(w, data, bytes);
}

static Status open_file(const Save *s, const PartPlan *p, StWriter *w) {
    StTensor *tensors = calloc((size_t)p->part->layout_count + 1, sizeof *tensors);
    if (tensors == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory for a checkpoint's header");
    for (int t = 0; t < p->part->layout_count; t++) tensors[t] = slice__tensor(&p->part->layout[t]);
    char path[PATH_BYTES];
    path_join(path, s->tmp_dir, p->part->file);
    Status st = stwriter__open(w, path, tensors, p->part->layout_count);
    free(tensors);
    return st;
}

// The owner's walk: receive, hash, write, tensor by tensor.
static Status own_part(const Save *s, PartPlan *p) {
    StWriter w = {.fd = -1};
    size_t *cursor = malloc((size_t)s->mesh->size * sizeof *cursor);
    ASSERT(cursor != NULL);
    memcpy(cursor, p->offsets, (size_t)s->mesh->size * sizeof *cursor);
    Status st = open_file(s, p, &w);
    for (int t = 0; t < p->part->layout_count; t++) {
        const real *data =
            receive_tensor(s, p, cursor, (uint64_t)t);  // also after a failure: others send
        if (st == OK) st = write_tensor(&w, p, t, data);
    }
    if (st == OK) st = stwriter__sync(&w);
    p->record.bytes = w.file_bytes;
    p->record.header_hash = w.header_hash;
    stwriter__close(&w);
    free(cursor);
    return st;
}

// Collective. No cycle of waits: an owner waits for senders only, and all walk the parts in the
// same order.
static Status save_parts(Save *s) {
    Status st = OK;
    for (int i = 0; i < s->count; i++) {
        PartPlan *p = &s->plans[i];
        if (p->owner != s->mesh->rank) {
            send_pieces(s, p);
            continue;
        }
        Status written = own_part(s, p);
        if (st == OK) st = written;
    }
    return agree(st, s->mesh->world);
}

// --- publish ---

// Rank 0 alone. The manifest is the last file; the rename makes the step visible.
static Status publish(const Save *s, const CkptPart *parts) {
    FileTable files = {calloc((size_t)s->count + 1, sizeof(FileRecord)), s->count, 0};
    if (files.files == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory for a manifest");
    for (int i = 0; i < s->count; i++)
        files.files[i] = s->plans[i].record;  // checksums stay the plan's
    Status st = manifest__write(s->tmp_dir, s->manifest, &files, parts);
    free(files.files);
    if (st == OK) st = steps__publish(s->ckpt_dir, s->manifest->step);
    return st;
}

// Collective.
// Checksums come from the owners first: rank 0 has seen its own files only.
static Status save_publish(Save *s, const CkptPart *parts) {
    for (int i = 0; i < s->count; i++) {
        PartPlan *p = &s->plans[i];
        uint64_t sizes[2] = {p->record.bytes, p->record.header_hash};
        comm_bcast(s->mesh->world, sizes, sizeof sizes, p->owner);
        p->record.bytes = sizes[0];
        p->record.header_hash = sizes[1];
        comm_bcast(s->mesh->world, p->record.tensor_hash,
                   (size_t)p->record.tensor_count * sizeof(uint64_t), p->owner);
    }
    return agree(s->mesh->rank == 0 ? publish(s, parts) : OK, s->mesh->world);
}

static void save_free(Save *s) {
    for (int i = 0; s->plans != NULL && i < s->count; i++) {
        free(s->plans[i].mine);
        free(s->plans[i].all);
        free(s->plans[i].offsets);
        free(s->plans[i].record.tensor_hash);
    }
    free(s->plans);
    free(s->buffer);
    free(s->landing);
}

Status checkpoint_prepare(const Mesh *mesh, const char *ckpt_dir) {
    Status st = path__check(ckpt_dir);
    if (st == OK && mesh->rank == 0) st = dir_make(ckpt_dir);
    TRY(agree(st, mesh->world));
    return agree(mesh->node_rank == 0 ? dir_probe(ckpt_dir) : OK, mesh->world);
}

// Four phases, each ended by one agreement, so that every rank leaves by the same one.
Status checkpoint_save(const Mesh *mesh, const char *ckpt_dir, const CkptPart *parts,
                       int part_count, const Manifest *m, int keep) {
    Save s = {.mesh = mesh, .ckpt_dir = ckpt_dir, .manifest = m, .count = part_count};
    Status st = agree(save_prepare(&s, parts), mesh->world);
    if (st == OK) st = save_plan(&s);
    if (st == OK) st = save_parts(&s);
    if (st == OK) st = save_publish(&s, parts);
    if (mesh->rank == 0) {
        if (st == OK)
            steps__prune(ckpt_dir, m->step, keep);
        else if (s.tmp_dir[0] != '\0' && path_exists(s.tmp_dir))
            steps__discard(s.tmp_dir);
    }
    comm_barrier(mesh->world);  // who returns finds the directory as it will stay
    save_free(&s);
    if (st == OK) return OK;
    return err_context(st, "checkpoint of step %lld is not saved, older ones are untouched",
                       (long long)m->step);
}
