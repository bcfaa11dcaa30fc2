// Number formats of tensors on disk and their conversion from and to `real`.
//
// Both 16-bit formats follow IEEE 754 with another split of the bits: F16 has 5 exponent and 10
// fraction bits, BF16 has 8 and 7. One routine serves both; it starts from a double, which holds
// every real exactly, so that nothing is ever rounded twice. Disk order is little-endian, as is
// every machine we run on (checked below).
#include "checkpoints/internal.h"

#include <math.h>
#include <string.h>

#include "base/finite.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors are little-endian");

// limit: the smallest magnitude that rounds to infinity, half a place above the largest value.
static const struct {
    const char *name;
    size_t bytes;
    bool is_float;
    double limit;
} DTYPES[] = {
    [DTYPE_F32] = {"F32", 4, true, 0x1.ffffffp127},
    [DTYPE_F64] = {"F64", 8, true, INFINITY},
    [DTYPE_BF16] = {"BF16", 2, true, 0x1.ffp127},
    [DTYPE_F16] = {"F16", 2, true, 0x1.ffep15},
    [DTYPE_I64] = {"I64", 8, false, 0},
    [DTYPE_I32] = {"I32", 4, false, 0},
};
enum { DTYPE_COUNT = sizeof DTYPES / sizeof DTYPES[0] };

typedef struct Format {
    int exponent_bits, fraction_bits;
} Format;
static const Format BF16 = {8, 7}, F16 = {5, 10};

enum { F64_FRACTION = 52, F64_BIAS = 1023, F64_SPECIAL = 0x7ff };
enum { F32_FRACTION = 23, F32_BIAS = 127 };

size_t dtype_bytes(Dtype d) {
    return DTYPES[d].bytes;
}
const char *dtype_name(Dtype d) {
    return DTYPES[d].name;
}
bool dtype__is_float(Dtype d) {
    return DTYPES[d].is_float;
}

bool dtype__parse(Dtype *d, const char *name) {
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(DTYPES[i].name, name) == 0) {
            *d = (Dtype)i;
            return true;
        }
    }
    return false;
}

// Round to nearest, ties to even.
static uint16_t narrow(double x, Format f) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t sign = bits >> 63 << 15;
    int exponent = (int)(bits >> F64_FRACTION) & F64_SPECIAL;
    uint64_t fraction = bits & ((1ULL << F64_FRACTION) - 1);
    uint64_t infinity = ((1ULL << f.exponent_bits) - 1) << f.fraction_bits;

    if (exponent ==
        F64_SPECIAL) {  // the quiet bit keeps a NaN with a short payload from becoming infinity
        uint64_t quiet = fraction == 0 ? 0 : 1ULL << (f.fraction_bits - 1);
        return (uint16_t)(sign | infinity | quiet | fraction >> (F64_FRACTION - f.fraction_bits));
    }
    if (exponent == 0) return (uint16_t)sign;  // zero, or far below our smallest subnormal

    // Drop bits behind the last place; a subnormal result has fewer places.
    int place =
        exponent - F64_BIAS + (1 << (f.exponent_bits - 1)) - 1;  // biased exponent of the result
    int drop = F64_FRACTION - f.fraction_bits + (place < 1 ? 1 - place : 0);
    if (drop > F64_FRACTION + 2) return (uint16_t)sign;  // below half the smallest subnormal
    fraction |= 1ULL << F64_FRACTION;
    uint64_t kept = fraction >> drop, rest = fraction & ((1ULL << drop) - 1),
             half = 1ULL << (drop - 1);
    if (rest > half || (rest == half && (kept & 1) != 0)) kept++;

    // The leading one of `kept` adds itself to the exponent field, and so does a carry out of the
    // fraction.
    uint64_t result = place < 1 ? kept : ((uint64_t)(place - 1) << f.fraction_bits) + kept;
    return (uint16_t)(sign | (result > infinity ? infinity : result));
}

// Exact: every 16-bit value is a float.
static float widen(uint16_t half, Format f) {
    uint32_t sign = (uint32_t)half >> 15 << 31;
    uint32_t special = (1U << f.exponent_bits) - 1;
    uint32_t exponent = (uint32_t)half >> f.fraction_bits & special;
    uint32_t fraction = half & ((1U << f.fraction_bits) - 1);
    int bias = (1 << (f.exponent_bits - 1)) - 1;
    uint32_t bits;
    if (exponent == special) {
        bits = 0xffU << F32_FRACTION | fraction << (F32_FRACTION - f.fraction_bits);
    } else if (bias == F32_BIAS) {  // BF16 is the upper half of a float, subnormals included
        bits = exponent << F32_FRACTION | fraction << (F32_FRACTION - f.fraction_bits);
    } else if (exponent == 0) {  // F16 subnormal: fraction * 2^-24, a normal float or zero
        float value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    } else {
        bits = (exponent + (uint32_t)(F32_BIAS - bias)) << F32_FRACTION |
               fraction << (F32_FRACTION - f.fraction_bits);
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

size_t reals__outside(const real *x, Dtype d, size_t count) {
    ASSERT(dtype__is_float(d));
    return reals_outside(x, count, (real)DTYPES[d].limit);  // of a type as wide as ours: infinity
}

double dtype__value(const void *at, Dtype d) {
    float single;
    double wide;
    uint16_t half;
    switch (d) {
    case DTYPE_F32:
        memcpy(&single, at, sizeof single);
        return (double)single;
    case DTYPE_F64:
        memcpy(&wide, at, sizeof wide);
        return wide;
    default:
        memcpy(&half, at, sizeof half);
        return (double)widen(half, d == DTYPE_BF16 ? BF16 : F16);
    }
}

// The common case, the same format on disk and in memory, is a copy.
void reals__decode(real *out, const void *bytes, Dtype d, size_t count) {
    ASSERT(dtype__is_float(d));
    if (count == 0) return;  // then pointers may be NULL
    if (d == DTYPE_REAL) {
        memcpy(out, bytes, count * sizeof(real));
        return;
    }
    const char *at = bytes;
    for (size_t i = 0; i < count; i++) out[i] = (real)dtype__value(at + i * dtype_bytes(d), d);
}

static void write_one(char *at, real value, Dtype d) {
    float single = (float)value;
    double wide = (double)value;
    uint16_t half;
    switch (d) {
    case DTYPE_F32:
        memcpy(at, &single, sizeof single);
        break;
    case DTYPE_F64:
        memcpy(at, &wide, sizeof wide);
        break;
    default:
        half = narrow(wide, d == DTYPE_BF16 ? BF16 : F16);
        memcpy(at, &half, sizeof half);
        break;
    }
}

void reals__encode(void *bytes, const real *in, Dtype d, size_t count) {
    ASSERT(dtype__is_float(d));
    if (count == 0) return;
    if (d == DTYPE_REAL) {
        memcpy(bytes, in, count * sizeof(real));
        return;
    }
    char *at = bytes;
    for (size_t i = 0; i < count; i++) write_one(at + i * dtype_bytes(d), in[i], d);
}
