// libFuzzer target for the safetensors reader, built and run by run.sh: every byte of every accepted tensor is read.
#include <stdio.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_all(const StFile *f) {
    for (int i = 0; i < st_count(f); i++) {
        const StTensor *t = st_tensor(f, i);
        ASSERT(st_find(f, t->name) == t);
        uint64_t elements = t->bytes / dtype_bytes(t->dtype);
        for (uint64_t e = 0; e < elements; e++) {
            real value;
            if (st_read_reals(f, t, &value, e, 1) != OK) break;
        }
        ASSERT(hash64(st_data(f, t), (size_t)t->bytes) != 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/fuzz_safetensors.%d", (int)getpid());
    FILE *out = fopen(path, "wb");
    if (out == NULL) return 0;
    size_t written = fwrite(data, 1, bytes, out);
    fclose(out);
    StFile *f = NULL;
    if (written == bytes && st_open(&f, path) == OK) read_all(f);
    st_close(f);
    unlink(path);
    return 0;
}
