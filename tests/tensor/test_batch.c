// Rows as a model takes them: shares of rows, documents, targets and weights.
#include <criterion/criterion.h>

#include <string.h>

#include "tensor/batch.h"

// Row b of a batch of whole rows counts up from 100 b.
static void fill(BatchRoom *room, int b) {
    int32_t *tokens = batch_next_tokens(room);
    for (int i = 0; i <= room->count; i++) tokens[i] = 100 * b + room->begin + i;
}

static void expect_token(const Batch *b, size_t at, int target, int64_t pos, bool start) {
    cr_assert_eq(b->targets[at], target, "token %zu: target %d", at, b->targets[at]);
    cr_assert_eq(b->weights[at], (real)(target != IGNORE_TARGET), "token %zu", at);
    cr_assert_eq(b->seq.pos[at], pos, "token %zu", at);
    cr_assert_eq(b->seq.start[at], start, "token %zu", at);
}

Test(batch, shares_of_rows_know_their_documents) {
    enum { T = 7, SP = 3, ROWS = 2 };
    static const int STARTS[] = {0, 3, 4};
    int64_t valid = 0;
    for (int rank = 0; rank < SP; rank++) {
        BatchRoom room;
        cr_assert_eq(batch_open(&room, T, SP, rank), OK);
        cr_assert_eq(batch_begin(&room, ROWS, T), OK);
        for (int r = 0; r < ROWS; r++) {
            fill(&room, r);
            for (int d = 0; d < 3; d++) cr_assert_eq(batch_add_document(&room, STARTS[d]), OK);
            batch_add_row(&room, r == 0 ? T : 6);
        }
        Batch b = batch_view(&room);
        for (int i = 0; i < ROWS * b.seq.T; i++) {
            int r = i / b.seq.T, t = b.seq.bound[rank] + i % b.seq.T;
            int start = t < 3 ? 0 : t < 4 ? 3 : 4;
            bool none = t == 2 || t == 3 || (r == 1 && t == 6);
            expect_token(&b, (size_t)i, none ? IGNORE_TARGET : 100 * r + t + 1, t - start,
                         t == start);
            cr_assert_eq(b.seq.first[i], start);
        }
        valid += b.valid;
        batch_close(&room);
    }
    cr_assert_eq(valid, 5 + 4);
}

Test(batch, rows_go_on_with_their_documents) {
    BatchRoom room;
    cr_assert_eq(batch_open(&room, 4, 1, 0), OK);
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(batch_begin(&room, 2, 3), OK);
        for (int r = 0; r < 2; r++) {
            fill(&room, r);
            batch_continue_row(&room, r == 0 ? 0 : (int64_t)1 << 40);
        }
        Batch b = batch_view(&room);
        cr_assert(b.seq.B == 2 && b.seq.T == 3 && b.valid == 0 && b.seq.bound == NULL);
        for (int i = 0; i < 6; i++)
            expect_token(&b, (size_t)i, IGNORE_TARGET, i % 3 + (i < 3 ? 0 : (int64_t)1 << 40),
                         false);
        cr_assert(b.tokens[2] == 2 && b.tokens[3] == 100);
    }
    batch_close(&room);
}

Test(batch, a_shape_has_no_documents_and_no_targets) {
    BatchRoom room;
    Batch b;
    cr_assert_eq(batch_open(&room, 5, 2, 1), OK);
    cr_assert_eq(batch_shape(&room, 3, 5, &b), OK);
    cr_assert(b.seq.B == 3 && b.seq.T == 2 && b.valid == 0 && b.seq.doc_row[3] == 0);
    cr_assert_eq(batch_shape(&room, 0, 5, &b), OK);
    cr_assert_eq(b.seq.B, 0);
    batch_close(&room);
}
