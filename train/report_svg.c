// Line charts as inline SVG. Colours, widths and type come from the page's style sheet through
// classes, so that the charts follow its light and dark schemes.
//
// Ticks are at 1, 2 or 5 times a power of ten (Heckbert, "Nice numbers for graph labels", Graphics
// Gems, 1990).
#include "train/report_internal.h"

#include <math.h>
#include <string.h>

// Room around the plot for the labels, and points of a curve at most.
enum { LEFT = 56, RIGHT = 14, TOP = 10, BOTTOM = 30, CURVE_POINTS = 1000 };
enum { PIXELS_A_STEP_TICK = 80, PIXELS_A_VALUE_TICK = 40 };

// One axis: values low..high are drawn at from..to.
typedef struct Axis {
    double low, high, from, to;
    bool log_scale;
} Axis;

static double scaled(const Axis *a, double v) {
    return a->log_scale ? log10(v) : v;
}

static double axis_place(const Axis *a, double v) {
    double low = scaled(a, a->low), high = scaled(a, a->high);
    return a->from + (scaled(a, v) - low) / (high - low) * (a->to - a->from);
}

// The smallest 1, 2 or 5 times a power of ten that is not below `least`.
static double nice_step(double least) {
    double power = pow(10, floor(log10(least))), share = least / power;
    const double slack = 1 + 1e-9;  // 0.3 / 0.1 is a little less or more than 3
    if (share <= 1 * slack) return power;
    if (share <= 2 * slack) return 2 * power;
    if (share <= 5 * slack) return 5 * power;
    return 10 * power;
}

// A tick's label: as short as the distance to the next tick allows.
static void tick_text(char out[NUMBER_BYTES], double v, double step) {
    int decimals = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    if (fabs(v) < step * 1e-6) {
        snprintf(out, NUMBER_BYTES, "0");
    } else if (step >= 1e6) {
        snprintf(out, NUMBER_BYTES, "%g M", v / 1e6);
    } else if (step >= 1e3) {
        snprintf(out, NUMBER_BYTES, "%gk", v / 1e3);
    } else if (decimals > 5) {
        snprintf(out, NUMBER_BYTES, "%.1e", v);
    } else {
        snprintf(out, NUMBER_BYTES, "%.*f", decimals, v);
    }
}

static void step_tick(FILE *out, double x, double bottom, const char *label) {
    fprintf(out, "<path class=tick d='M%.1f %.1fv4'/>", x, bottom);
    fprintf(out, "<text class=step x=%.1f y=%.1f>%s</text>\n", x, bottom + 19, label);
}

static void value_tick(FILE *out, const Axis *x, double y, const char *label) {
    fprintf(out, "<path class=grid d='M%.1f %.1fH%.1f'/>", x->from, y, x->to);
    fprintf(out, "<text class=value x=%.1f y=%.1f>%s</text>\n", x->from - 8, y + 4, label);
}

// The distance of ticks that stand at least `pixels` apart.
static double tick_distance(const Axis *a, double pixels) {
    return nice_step((a->high - a->low) * pixels / fabs(a->to - a->from));
}

static void linear_ticks(FILE *out, const Axis *x, const Axis *y, const Axis *along) {
    double step = tick_distance(along, along == x ? PIXELS_A_STEP_TICK : PIXELS_A_VALUE_TICK);
    if (along == x && step < 1) step = 1;  // steps are whole
    char label[NUMBER_BYTES];
    for (double i = ceil(along->low / step - 1e-9); i * step <= along->high + step * 1e-9; i++) {
        tick_text(label, i * step, step);
        if (along == x) {
            step_tick(out, axis_place(x, i * step), y->from, label);
        } else {
            value_tick(out, x, axis_place(y, i * step), label);
        }
    }
}

// Powers of ten; 2 and 5 times them too where there are few.
static void log_ticks(FILE *out, const Axis *x, const Axis *y) {
    static const double DENSE[] = {1, 2, 5};
    double decades = log10(y->high / y->low);
    int dense = decades < 2.5 ? 3 : 1, apart = decades > 6 ? (int)(decades / 4) : 1;
    char label[NUMBER_BYTES];
    for (int e = (int)floor(log10(y->low)); e <= (int)ceil(log10(y->high)); e += apart) {
        for (int i = 0; i < dense; i++) {
            double v = DENSE[i] * pow(10, e);
            if (v < y->low || v > y->high) continue;
            if (v >= 1e-3 && v < 1e5) {
                snprintf(label, sizeof label, "%g", v);
            } else {
                snprintf(label, sizeof label, "%.0e", v);
            }
            value_tick(out, x, axis_place(y, v), label);
        }
    }
}

// The curve as one path.
static void draw_curve(FILE *out, const Axis *x, const Axis *y, const Series *s, const char *name) {
    Series thin;
    series__thin(&thin, s, CURVE_POINTS);
    fprintf(out, "<path class=%s d='", name);
    char command = 'M';
    for (int i = 0; i < thin.count; i++) {
        if (y->log_scale && thin.at[i].y <= 0) continue;
        fprintf(out, "%c%.1f %.1f", command, axis_place(x, thin.at[i].x),
                axis_place(y, thin.at[i].y));
        command = 'L';
    }
    fputs("'/>\n", out);
    series__free(&thin);
}

static void draw_dots(FILE *out, const Axis *x, const Axis *y, const Series *s) {
    Series thin;
    series__thin(&thin, s, CURVE_POINTS / 4);
    for (int i = 0; i < thin.count; i++) {
        const Point *p = &thin.at[i];
        fprintf(out,
                "<circle class=dot cx=%.1f cy=%.1f r=3.5><title>step %.0f: %.4f</title>"
                "</circle>\n",
                axis_place(x, p->x), axis_place(y, p->y), p->x, p->y);
    }
    series__free(&thin);
}

static void draw_reference(FILE *out, const Axis *x, const Axis *y, const Bar *b) {
    double at = axis_place(y, b->value);
    fprintf(out, "<path class=reference d='M%.1f %.1fH%.1f'/>", x->from, at, x->to);
    fprintf(out, "<text class=reference x=%.1f y=%.1f>", x->to - 4, at - 6);
    html__text(out, b->name, strlen(b->name));
    fprintf(out, " %.3f</text>\n", b->value);
}

static void take(Axis *y, double v) {
    if (y->log_scale && v <= 0) return;
    if (v < y->low) y->low = v;
    if (v > y->high) y->high = v;
}

// The range of the values with a little air; false when there is nothing to draw.
static bool value_range(Axis *y, const Chart *c) {
    y->low = INFINITY;
    y->high = -INFINITY;
    y->log_scale = c->log_scale;
    for (int i = 0; i < c->points->count; i++) take(y, c->points->at[i].y);
    if (y->high < y->low) return false;
    if (c->reference != NULL) take(y, c->reference->value);
    if (y->log_scale) {
        y->low /= 1.15;
        y->high *= 1.15;
        return true;
    }
    if (c->from_zero && y->low >= 0 && y->high > 0) {  // up to a tick
        y->low = 0;
        double step = tick_distance(y, PIXELS_A_VALUE_TICK);
        y->high = step * ceil(y->high / step - 1e-9);
        return true;
    }
    double air = y->high > y->low ? 0.06 * (y->high - y->low) : 0.05 * fabs(y->high) + 1e-9;
    y->low -= air;
    y->high += air;
    return true;
}

void svg__chart(FILE *out, const Chart *c) {
    Axis x = {0, c->last_step > 0 ? c->last_step : 1, LEFT, c->width - RIGHT, false};
    Axis y = {.from = c->height - BOTTOM, .to = TOP};
    if (!value_range(&y, c)) {
        fputs("<p class=none>no values yet</p>\n", out);
        return;
    }
    fprintf(out, "<svg viewBox='0 0 %d %d' role=img aria-label='", c->width, c->height);
    html__text(out, c->title, strlen(c->title));
    fputs("'>\n", out);
    if (y.log_scale) {
        log_ticks(out, &x, &y);
    } else {
        linear_ticks(out, &x, &y, &y);
    }
    linear_ticks(out, &x, &y, &x);
    fprintf(out, "<path class=axis d='M%.1f %.1fH%.1f'/>\n", x.from, y.from, x.to);
    if (c->reference != NULL) draw_reference(out, &x, &y, c->reference);
    draw_curve(out, &x, &y, c->points, c->smooth != NULL ? "raw" : "curve");
    if (c->smooth != NULL) draw_curve(out, &x, &y, c->smooth, "curve");
    if (c->dots) draw_dots(out, &x, &y, c->points);
    fputs("</svg>\n", out);
}
