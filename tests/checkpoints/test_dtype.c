// Number formats, over all 16-bit values and at every rounding border, against ldexp and a search.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "checkpoints/internal.h"

// The value by the definition: sign, exponent, fraction.
static double naive_value(unsigned half, int exponent_bits, int fraction_bits) {
    int special = (1 << exponent_bits) - 1, bias = special / 2;
    int exponent = (int)(half >> fraction_bits) & special;
    double fraction = (double)(half & ((1U << fraction_bits) - 1)) / (double)(1U << fraction_bits);
    double sign = (half & 0x8000) != 0 ? -1 : 1;
    if (exponent == special) return fraction == 0 ? sign * INFINITY : NAN;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias);
    return sign * ldexp(1 + fraction, exponent - bias);
}

static real decode(unsigned half, Dtype d) {
    uint16_t bits = (uint16_t)half;
    real out;
    reals__decode(&out, &bits, d, 1);
    return out;
}

static unsigned encode(double x, Dtype d) {
    real in = (real)x;
    uint16_t bits;
    reals__encode(&bits, &in, d, 1);
    return bits;
}

static void check_all_values(Dtype d, int exponent_bits, int fraction_bits) {
    for (unsigned half = 0; half <= 0xffff; half++) {
        double want = naive_value(half, exponent_bits, fraction_bits);
        double got = (double)decode(half, d);
        if (isnan(want)) {
            cr_assert(isnan(got), "%04x", half);
            cr_assert(isnan((double)decode(encode(got, d), d)), "%04x", half);
            continue;
        }
        cr_assert(got == want && signbit(got) == signbit(want), "%04x: %a, not %a", half, got,
                  want);
        cr_assert_eq(encode(got, d), half, "%04x comes back as %04x", half, encode(got, d));
    }
}

Test(dtype, every_bf16_value_is_read_and_written_back) {
    check_all_values(DTYPE_BF16, 8, 7);
}
Test(dtype, every_f16_value_is_read_and_written_back) {
    check_all_values(DTYPE_F16, 5, 10);
}

// Between two neighbours: the middle goes to the even one, all else to the nearer.
static void check_rounding(Dtype d, unsigned last) {
    for (unsigned half = 0; half < last; half++) {
        double low = (double)decode(half, d), high = (double)decode(half + 1, d);
        if (isinf(high))
            high = 2 * low - (double)decode(half - 1, d);  // where the next step would be
        double middle = low + (high - low) / 2;
        unsigned even = (half & 1) == 0 ? half : half + 1;
        for (int sign = 0; sign < 2; sign++) {
            double s = sign == 0 ? 1 : -1;
            unsigned bit = (unsigned)sign << 15;
            real below = (real)nextafterf((float)middle, 0),
                 above = (real)nextafterf((float)middle, INFINITY);
            if ((double)(real)middle == middle)
                cr_assert_eq(encode(s * middle, d), bit | even, "%04x", half);
            cr_assert_eq(encode(s * (double)below, d), bit | half, "below the middle over %04x",
                         half);
            cr_assert_eq(encode(s * (double)above, d), bit | (half + 1),
                         "above the middle over %04x", half);
        }
    }
}

Test(dtype, f16_rounds_to_nearest_even_at_every_border) {
    check_rounding(DTYPE_F16, 0x7c00);
}

// position.
Test(dtype, bf16_rounds_to_nearest_even_at_every_border) {
    check_rounding(DTYPE_BF16, 0x7f80);
}

Test(dtype, values_out_of_range_become_infinity_or_zero) {
    cr_assert_eq(encode(65520, DTYPE_F16), 0x7c00);
    cr_assert_eq(encode(65519.99, DTYPE_F16), 0x7bff);
    cr_assert_eq(encode(-1e30, DTYPE_F16), 0xfc00);
    cr_assert_eq(encode(1e-30, DTYPE_F16), 0);
    cr_assert_eq(encode(-1e-30, DTYPE_F16), 0x8000);
    cr_assert_eq(encode(3.4e38, DTYPE_BF16), 0x7f80);
    cr_assert_eq(encode(INFINITY, DTYPE_BF16), 0x7f80);
}

// What is said to fit stays finite when it is written, and what is said not to does not.
static void check_outside(Dtype d, double largest, double limit) {
    char bytes[8];
    const double values[] = {largest, -largest, limit, -limit, NAN, INFINITY, -INFINITY, 0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        real x = (real)values[i];
        reals__encode(bytes, &x, d, 1);
        bool fits = isfinite(dtype__value(bytes, d)) != 0;
        cr_assert_eq(reals__outside(&x, d, 1), fits, "%s: %a", dtype_name(d), values[i]);
    }
    real x[3] = {0, (real)largest, (real)limit};
    cr_assert_eq(reals__outside(x, d, 3), 2, "%s", dtype_name(d));
}

Test(dtype, what_would_become_infinite_is_found_at_the_border) {
    check_outside(DTYPE_F16, 65519.99, 65520);
    check_outside(DTYPE_BF16, (double)nextafterf(0x1.ffp127f, 0), 0x1.ffp127);
    check_outside(DTYPE_F32, 0x1.fffffep127,
                  0x1.ffffffp127);  // the border is no float: infinity there
    check_outside(DTYPE_F64, sizeof(real) == 8 ? 1e308 : 3e38, INFINITY);
}

Test(dtype, a_nan_with_a_short_payload_stays_a_nan) {
#ifdef STERNA_F64
    uint64_t bits = 0x7ff0000000000001;  // cutting the low bits off would leave infinity
#else
    uint32_t bits = 0x7f800001;
#endif
    real in;
    memcpy(&in, &bits, sizeof in);
    for (int i = 0; i < 2; i++) {
        Dtype d = i == 0 ? DTYPE_BF16 : DTYPE_F16;
        uint16_t half;
        reals__encode(&half, &in, d, 1);
        cr_assert(isnan((double)decode(half, d)));
    }
}

#ifdef STERNA_F64
Test(dtype, doubles_are_rounded_once) {
    // Just above the middle of 1 and the next bf16; by way of a float it would become the middle,
    // then 1.
    cr_assert_eq(encode(1 + 0x1p-8 + 0x1p-40, DTYPE_BF16), 0x3f81);
}
#endif
