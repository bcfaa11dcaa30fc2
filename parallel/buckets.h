// The plan of a reduction: which runs of the flat arrays are exchanged together, in which order,
// cut in which pieces, and where received pieces lie. Arithmetic on (rows, size, rank); the same on
// all ranks but for the int arrays.
#pragma once

#include "parallel/comm.h"
#include "parallel/internal.h"

typedef struct Bucket {
    size_t begin, count;      // in the flat arrays, multiples of 16
    int first_row, last_row;  // rows that overlap it
    size_t window;  // where its pieces are received: the piece of each other rank, in rank order
    int after;    // starts when bucket `after`, which lay in the same place, is folded; -1: at once
    int *counts;  // (4, size) of MPI_Ialltoallv: counts and places to send, the same to receive
    int *piece_counts;  // (size) of MPI_Allgatherv; its places are the places to send
} Bucket;

typedef struct BucketPlan {
    int size, rank;
    Bucket *buckets;  // in order: from the last rows to the first, then late ones
    int count, capacity;
    int *ints;      // the arrays of all buckets
    size_t window;  // elements of the receive window
} BucketPlan;

// A bucket is the shortest run of whole rows of at least `least` elements (the first rows may be
// fewer); runs longer than `limit` are cut. Neighbouring late rows are a bucket of their own,
// unless all rows are one.
void plan_open(BucketPlan *plan, const ParamSet *ps, const Comm *comm, size_t least, size_t limit);
void plan_close(BucketPlan *plan);
Range bucket_piece(const BucketPlan *plan, int bucket, int rank);  // in the flat arrays
uint64_t plan_hash(const BucketPlan *plan);
