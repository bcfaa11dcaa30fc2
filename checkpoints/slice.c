// Arithmetic of slices: which elements of a global tensor a dense piece of memory stands for.
#include "checkpoints/checkpoint.h"

Slice slice_range(const Slice *layout, uint64_t begin, uint64_t count, real *data) {
    Slice s = *layout;
    s.begin = begin;
    s.run = s.stride = count;
    s.runs = 1;
    s.data = data;
    return s;
}

// Each turn takes all the whole runs it can, or the part of one run. After a part comes a border of
// runs, so three turns do.
int slice_cut(Slice out[CUT_SLICES], const Slice *s, uint64_t begin, uint64_t count) {
    ASSERT(begin <= slice_elements(s) && count <= slice_elements(s) - begin);
    int n = 0;
    while (count > 0) {
        uint64_t skip = begin % s->run, left = s->run - skip;
        bool whole = skip == 0 && count >= s->run;
        ASSERT(n < CUT_SLICES);
        Slice *part = &out[n++];
        *part = *s;
        part->begin += begin / s->run * s->stride + skip;
        part->runs = whole ? count / s->run : 1;
        part->run = whole ? s->run : count < left ? count : left;
        if (s->data != NULL) part->data = s->data + begin;
        begin += slice_elements(part);
        count -= slice_elements(part);
    }
    return n;
}
