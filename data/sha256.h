// SHA-256 (FIPS 180-4): what APT states for a package. Nothing else of the program uses it.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct Sha256 {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];
} Sha256;

void sha256_init(Sha256 *s);
void sha256_add(Sha256 *s, const void *data, size_t bytes);
void sha256_hex(Sha256 *s, char out[65]);  // ends the sum
