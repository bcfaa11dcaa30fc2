// Checkpoints of what tensor parallelism and ZeRO-1 leave on a rank: blocks of columns, rows of
// each section, cut at any element. Saved by some ranks in one split, loaded by others in another;
// holes are named; weights are exported without being put together.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/mesh.h"
#include "tests/mpi/case_checkpoint.h"

enum { ROWS = 7, COLS = 13, SECTIONS = 4, WIDTH = 5, COPIED = 11, BLOCKED = 3 };
enum { CUTS = 256, BLOCK_ELEMENTS = 512 };

static const Slice BLOCK_LAYOUT[BLOCKED] = {
    {.tensor = "columns", .ndim = 2, .dim = {ROWS, COLS}},               // cut by columns
    {.tensor = "sections", .ndim = 2, .dim = {SECTIONS * ROWS, WIDTH}},  // by rows of each section
    {.tensor = "copied", .ndim = 1, .dim = {COPIED}},                    // everyone has it
};

// All blocks of each tensor one after another, and the slices of those that this rank speaks for.
typedef struct Blocks {
    Slice slices[CUTS];
    int count;
    real data[BLOCK_ELEMENTS];
} Blocks;

static Slice block(int t, int tp, int r) {
    Slice s = slice_range(&BLOCK_LAYOUT[t], 0, COPIED, NULL);
    size_t first = split_begin(t == 0 ? COLS : ROWS, tp, r);
    size_t n = split_count(t == 0 ? COLS : ROWS, tp, r);
    if (t == 0) s.begin = first, s.run = n, s.stride = COLS, s.runs = ROWS;
    if (t == 1) {
        s.begin = first * WIDTH;
        s.run = n * WIDTH;
        s.stride = ROWS * WIDTH;
        s.runs = SECTIONS;
    }
    return s;
}

// Where element j of a block stands in its tensor: by rows and columns, not by slices.
static size_t block_place(int t, int tp, int r, size_t j) {
    if (t == 2) return j;
    size_t first = split_begin(t == 0 ? COLS : ROWS, tp, r);
    size_t n = split_count(t == 0 ? COLS : ROWS, tp, r);
    if (t == 0) return j / n * COLS + first + j % n;
    size_t row = j / WIDTH, section = row / n;
    return (section * ROWS + first + row % n) * WIDTH + j % WIDTH;
}

// The value that belongs at each place of `data`.
static void block_values(real *out, int64_t step, int part, int tp) {
    for (int t = 0; t < BLOCKED; t++) {
        for (int r = 0; r < tp; r++) {
            Slice s = block(t, tp, r);
            for (size_t j = 0; j < slice_elements(&s); j++)
                *out++ = fixture_value(step, part, 200 * (size_t)t + block_place(t, tp, r, j));
        }
    }
}

// tp blocks a tensor, each cut at odd elements among `zero` owners (0: not cut), dealt out in turn.
static void deal_blocks(Blocks *b, const Mesh *mesh, int tp, int zero) {
    real *data = b->data;
    b->count = 0;
    for (int t = 0; t < BLOCKED; t++) {
        for (int r = 0; r < tp; r++) {
            Slice s = block(t, tp, r);
            size_t n = slice_elements(&s);
            s.data = data;
            data += n;
            CHECK(data <= b->data + BLOCK_ELEMENTS && b->count + CUT_SLICES * zero < CUTS);
            if (zero == 0 && r % mesh->size == mesh->rank) b->slices[b->count++] = s;
            for (int d = 0; d < zero; d++) {
                if ((r * zero + d) % mesh->size != mesh->rank) continue;
                b->count += slice_cut(&b->slices[b->count], &s, split_begin(n, zero, d),
                                      split_count(n, zero, d));
            }
        }
    }
}

// Cut anew in all files, for a save or a load by `mesh`.
static void make_blocks(Fixture *f, Blocks *b, const Mesh *mesh, int tp, int zero) {
    for (int p = 0; p < PARTS; p++) {
        deal_blocks(&b[p], mesh, tp, zero);
        f->parts[p] = (CkptPart){FILES[p], {b[p].slices, b[p].count}, BLOCK_LAYOUT, BLOCKED};
    }
}

static void save_blocks(Fixture *f, Blocks *b, const Mesh *mesh, int64_t step, int tp) {
    for (int p = 0; p < PARTS; p++) block_values(b[p].data, step, p, tp);
    Status st = fixture_save(f, mesh, step, 1);
    if (st != OK) fprintf(stderr, "%s\n", err_message());
    CHECK(st == OK);
}

static void expect_blocks(Fixture *f, Blocks *b, const Mesh *mesh, int64_t step, int tp, int zero,
                          int saved_by) {
    real want[BLOCK_ELEMENTS];
    make_blocks(f, b, mesh, tp, zero);
    for (int p = 0; p < PARTS; p++)
        for (int i = 0; i < BLOCK_ELEMENTS; i++) b[p].data[i] = -1;
    fixture_load(f, mesh, step, saved_by);
    for (int p = 0; p < PARTS; p++) {
        bool wanted[BLOCK_ELEMENTS] = {false};
        slices_mark(wanted, &f->parts[p].mine, b[p].data);
        for (int i = 0; i < BLOCK_ELEMENTS; i++) want[i] = -1;
        block_values(want, step, p, tp);
        for (int i = 0; i < BLOCK_ELEMENTS; i++) CHECK(b[p].data[i] == (wanted[i] ? want[i] : -1));
    }
}

// With 8 blocks of 7 rows the last one is empty.
static void case_blocks(const Mesh *mesh) {
    static const int TP[] = {1, 2, 3, 8}, ZERO[] = {0, 2, 5};
    Fixture f;
    Blocks b[PARTS];
    Mesh single = mesh_alone(mesh);
    fixture_open(&f, mesh);
    int64_t step = 0;
    for (int i = 0; i < 4; i++) {
        for (int z = 0; z < 3; z++) {
            make_blocks(&f, b, mesh, TP[i], ZERO[z]);
            save_blocks(&f, b, mesh, ++step, TP[i]);
            for (int k = 0; k < 12; k++)
                expect_blocks(&f, b, mesh, step, TP[k / 3], ZERO[k % 3], mesh->size);
            expect_blocks(&f, b, &single, step, 3, 2, mesh->size);  // each by itself
            comm_barrier(mesh->world);  // before the next save removes what is read
        }
    }
    if (mesh->rank == 0) {
        make_blocks(&f, b, &single, 3, 2);
        save_blocks(&f, b, &single, ++step, 3);
    }
    step = 13;
    comm_barrier(mesh->world);
    expect_blocks(&f, b, mesh, step, 2, 5, 1);
    make_blocks(&f, b, &single, 3, 5);  // all ranks hold all, in runs
    save_blocks(&f, b, mesh, ++step, 3);
    expect_blocks(&f, b, mesh, step, 2, 0, mesh->size);
    fixture_close(&f);
}

// Of the tensor's block 0, on rank 0.
static Slice *first_slice(Fixture *f, const char *tensor) {
    SliceTable *mine = &f->parts[1].mine;
    for (int i = 0; i < mine->count; i++) {
        if (strcmp(mine->slices[i].tensor, tensor) == 0) return &mine->slices[i];
    }
    CHECK(!"no such slice");
    return NULL;
}

static void case_block_holes(const Mesh *mesh) {
    Fixture f;
    Blocks b[PARTS] = {0};
    fixture_open(&f, mesh);
    make_blocks(&f, b, mesh, 2, 0);
    if (mesh->rank == 0) first_slice(&f, "columns")->run--;  // 7 of 13 columns are block 0's
    fixture_save_fails(&f, E_BUG);
    CHECK(strstr(err_message(), "m.safetensors: no rank holds element 6 of 'columns'") != NULL);

    make_blocks(&f, b, mesh, 1, 0);
    if (mesh->rank == 0) first_slice(&f, "columns")->runs--;  // all rows but the last
    fixture_save_fails(&f, E_BUG);
    CHECK(strstr(err_message(), "no rank holds element 78 of 'columns'") != NULL);

    make_blocks(&f, b, mesh, 2, 0);
    if (mesh->rank == 0) first_slice(&f, "sections")->runs--;
    fixture_save_fails(&f, E_BUG);
    CHECK(strstr(err_message(), "no rank holds element 105 of 'sections'") != NULL);

    make_blocks(&f, b, mesh, 2, 5);  // 49 elements among 5: the second owner's begin in row 1
    if (mesh->rank == 1 % mesh->size) {
        Slice *s = f.parts[1].mine.slices;
        while (s->begin != COLS + 3) s++;
        s->runs = 0;
    }
    fixture_save_fails(&f, E_BUG);
    CHECK(strstr(err_message(), "no rank holds element 16 of 'columns'") != NULL);
    fixture_close(&f);
}

// --- export ---

static void expect_same_bytes(const char *a, const char *b) {
    char *x, *y;
    size_t nx, ny;
    CHECK(file_read(a, &x, &nx) == OK && file_read(b, &y, &ny) == OK);
    CHECK(nx == ny && memcmp(x, y, nx) == 0);
    free(x);
    free(y);
}

// The same weights by the exporter that has them all in memory.
static void export_whole(const char *dir, int64_t step) {
    ParamSet ps = {0};
    for (int t = 0; t < BLOCKED; t++) {
        const Slice *s = &BLOCK_LAYOUT[t];
        params_add(&ps, s->tensor, s->ndim, s->dim, INIT_NORMAL, 1);
    }
    CHECK(params_reserve(&ps, false) == OK);
    for (int t = 0; t < BLOCKED; t++) {
        for (size_t i = 0; i < ps.rows[t].count; i++)
            ps.rows[t].data[i] = fixture_value(step, 0, 200 * (size_t)t + i);
    }
    CHECK(hf_export(&ps, dir, sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32, 0) == OK);
    params_free(&ps);
}

static void expect_export_fails(const Fixture *f, int64_t step, const char *path, Status want,
                                const char *cause) {
    Dtype stored;
    Status st = checkpoint_export_weights(f->ckpt, step, path, &stored);
    if (st != want) fprintf(stderr, "%s: %s\n", status_name(st), err_message());
    CHECK(st == want && strstr(err_message(), cause) != NULL && err_hint()[0] != '\0');
}

static void case_export_weights(const Mesh *mesh) {
    Fixture f;
    Blocks b[PARTS];
    fixture_open(&f, mesh);
    make_blocks(&f, b, mesh, 3, 2);
    save_blocks(&f, b, mesh, 1, 3);
    f.parts[0].file = "other.safetensors";
    CHECK(fixture_save(&f, mesh, 2, 0) == OK);
    if (mesh->rank == 0) {
        char out[PATH_BYTES], whole[PATH_BYTES], path[PATH_BYTES];
        path_join(out, f.dir, "out.safetensors");
        Dtype stored = DTYPE_I32;
        CHECK(checkpoint_export_weights(f.ckpt, 1, out, &stored) == OK);
        CHECK(dtype_bytes(stored) == sizeof(real));
        export_whole(f.dir, 1);
        path_join(whole, f.dir, FILES[0]);
        expect_same_bytes(out, whole);

        step_file(path, &f, 1, FILES[1]);
        file_flip(path, -1);  // not the weights
        CHECK(file_write(out, "x", 1) == OK &&
              checkpoint_export_weights(f.ckpt, 1, out, &stored) == OK);
        expect_same_bytes(out, whole);
        step_file(path, &f, 1, FILES[0]);
        file_flip(path, -1);
        expect_export_fails(&f, 1, out, E_FORMAT, "checksum of tensor 'copied'");
        expect_same_bytes(out, whole);
        file_flip(path, -1);
        path_join(path, f.dir, "none/out.safetensors");
        expect_export_fails(&f, 1, path, E_IO, "none/out.safetensors");
        expect_export_fails(&f, 7, out, E_MISSING, "manifest.msgpack");
        expect_export_fails(&f, 2, out, E_FORMAT, "holds no model.safetensors");
        expect_same_bytes(out, whole);
    }
    fixture_close(&f);
}

const MpiCase CASES_BLOCKS[] = {
    {"checkpoint_blocks", case_blocks},
    {"checkpoint_block_holes", case_block_holes},
    {"checkpoint_export_weights", case_export_weights},
    {NULL, NULL},
};
