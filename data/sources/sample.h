// The table that the build makes from data/sample/*.txt: see data/sample/embed.cmake.
#pragma once

#include <stddef.h>

typedef struct Sample {
    const char *name;  // of the source: the file's name without .txt
    const unsigned char *data;
    size_t bytes;
} Sample;
extern const Sample SAMPLES[];
extern const int SAMPLE_COUNT;
