// Accuracy of the elementary functions against libm, and what they make of special values.
#include <criterion/criterion.h>

#include <math.h>

#include "base/rng.h"
#include "tensor/kernels/vmath.h"
#include "tests/gradcheck.h"

// Distance in units of the last place of a float at `exact`.
static double float_ulps(double got, double exact) {
    int exponent;
    frexp(exact, &exponent);
    return fabs(got - exact) / ldexp(1, exponent - 24);
}

Test(vmath, exp_is_within_two_ulps_over_the_normal_range) {
    double worst = 0;
    for (int i = 0; i <= 1750000; i++) {
        real x = (real)(-87.0 + i * 1e-4);
        worst = fmax(worst, float_ulps((double)real_exp(x), exp((double)x)));
    }
    cr_assert_leq(worst, 2.0, "%g ulps", worst);
}

Test(vmath, exp_saturates_at_the_ends_and_passes_nan_on) {
    cr_assert_eq(real_exp(0), 1);
    cr_assert_eq(real_exp((real)-INFINITY), 0);
    cr_assert_eq(real_exp((real)-1e30), 0);
    cr_assert_eq(real_exp((real)INFINITY), (real)INFINITY);
    cr_assert_eq(real_exp((real)1e30), (real)INFINITY);
    cr_assert(isfinite(real_exp((real)88.7)));
    cr_assert(isnan(real_exp((real)NAN)));
    cr_assert(isnan(real_exp(-(real)NAN)));
}

Test(vmath, exp_fades_through_denormal_numbers) {
    for (double x = -103; x < -87; x += 0.01) {
        real got = real_exp((real)x);
        cr_assert_leq(fabs((double)got - exp((double)(real)x)), 1.5e-45, "at %g", x);
    }
}

Test(vmath, sigmoid_is_zero_and_one_far_out) {
    cr_assert_eq(real_sigmoid((real)-1000), 0);
    cr_assert_eq(real_sigmoid((real)1000), 1);
    cr_assert_eq(real_sigmoid(0), (real)0.5);
    cr_assert(isnan(real_sigmoid((real)NAN)));
}

Test(vmath, sincos_is_right_for_angles_up_to_1e8) {
    double worst = 0;
    for (uint64_t i = 0; i < 300000; i++) {
        double size = pow(10, 16 * rng_uniform(1, STREAM_TEST, 2 * i) - 8);
        double angle = i % 2 ? size : -size;
        real sine, cosine;
        real_sincos(angle, &sine, &cosine);
        worst = fmax(worst, fabs((double)sine - sin(angle)));
        worst = fmax(worst, fabs((double)cosine - cos(angle)));
    }
    cr_assert_lt(worst, 1e-7);
}

Test(vmath, sincos_knows_its_quadrants) {
    const double pi = 3.14159265358979323846;
    for (int quarter = -9; quarter <= 9; quarter++) {
        real sine, cosine;
        real_sincos(quarter * pi / 2, &sine, &cosine);
        int q = quarter & 3;
        double want_sine = q == 1 ? 1 : q == 3 ? -1 : 0, want_cosine = q == 0 ? 1 : q == 2 ? -1 : 0;
        cr_assert_float_eq((double)sine, want_sine, 1e-7);
        cr_assert_float_eq((double)cosine, want_cosine, 1e-7);
    }
}

Test(vmath, sincos_of_what_is_no_angle_is_nan) {
    real sine, cosine;
    real_sincos(NAN, &sine, &cosine);
    cr_assert(isnan(sine) && isnan(cosine));
    real_sincos(INFINITY, &sine, &cosine);
    cr_assert(isnan(sine) && isnan(cosine));
}

Test(vmath, row_dot_takes_any_length_and_does_not_overflow) {
    for (size_t count = 0; count < 70; count++) {
        double sum = 0;
        real a[70], b[70];
        for (size_t i = 0; i < count; i++) {
            a[i] = (real)(i + 1);
            b[i] = (real)(i % 3) - 1;
            sum += (double)a[i] * (double)b[i];
        }
        cr_assert_eq(row_dot(a, b, count), sum);
    }
    const real large[2] = {(real)1e30, (real)1e30};
    cr_assert_float_eq(row_dot(large, large, 2) / 2e60, 1, 1e-6);
}

Test(vmath, normal_below_is_the_distribution_function) {
    double worst = 0, before = 0;
    for (int i = -200000; i <= 200000; i++) {
        real x = (real)(i * 1e-4);
        real got = real_normal_below(x, real_exp(-(real)0.5 * x * x));
        worst = fmax(worst, fabs((double)got - 0.5 * erfc(-(double)x * sqrt(0.5))));
        cr_assert_geq((double)got, before - 2e-7, "at %g", (double)x);
        before = (double)got;
    }
    cr_assert_leq(worst, 2e-7, "off by %g", worst);
    cr_assert_eq(real_normal_below((real)INFINITY, 0), 1);
    cr_assert_eq(real_normal_below((real)-INFINITY, 0), 0);
    cr_assert(isnan(real_normal_below((real)NAN, (real)NAN)));
}
