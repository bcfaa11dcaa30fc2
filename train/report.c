// The report of a run: one page with everything inside it. No script, nothing fetched; light or
// dark as the reader's system is, one column on a phone.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "train/report_internal.h"
#include "train/run.h"

// ---- text and numbers --------------------------------------------------------------------------

// One character of at most 4 bytes, or the mark of a damaged one.
static void html_code(FILE *out, uint32_t code, const char *bytes, int count) {
    const char *entity = NULL;
    if (code == '<') entity = "&lt;";
    if (code == '>') entity = "&gt;";
    if (code == '&') entity = "&amp;";
    if (code == '\'') entity = "&#39;";
    if (code == '"') entity = "&quot;";
    if (code != '\n' && code != '\t' && !code_is_printable(code)) entity = "\xEF\xBF\xBD";
    if (entity != NULL) {
        fputs(entity, out);
    } else {
        fwrite(bytes, 1, (size_t)count, out);
    }
}

void html__text(FILE *out, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        uint32_t code = 0;
        int n = utf8_decode(&code, text + i, bytes - i);
        html_code(out, n == 0 ? 0 : code, text + i, n);
        i += n == 0 ? 1 : (size_t)n;
    }
}

static void html_string(FILE *out, const char *text) {
    html__text(out, text, strlen(text));
}

void number__count(char out[NUMBER_BYTES], int64_t v) {
    char digits[NUMBER_BYTES];
    if (v < 0) {
        snprintf(out, NUMBER_BYTES, "-");
        return;
    }
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v), to = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
}

void number__short(char out[NUMBER_BYTES], double v) {
    static const char *const UNITS[] = {"", " k", " M", " B", " T"};
    if (!isfinite(v) || v < 0) {
        snprintf(out, NUMBER_BYTES, "-");
        return;
    }
    int unit = 0;
    for (; v >= 999.5 && unit < 4; unit++) v /= 1000;
    int decimals = unit == 0 || v >= 99.95 ? 0 : (v >= 9.995 ? 1 : 2);
    snprintf(out, NUMBER_BYTES, "%.*f%s", decimals, v, UNITS[unit]);
}

static void duration_text(char out[NUMBER_BYTES], double s) {
    if (s < 100) {
        snprintf(out, NUMBER_BYTES, "%.*f s", s < 10 ? 1 : 0, s);
    } else if (s < 7200) {
        snprintf(out, NUMBER_BYTES, "%.*f min", s < 600 ? 1 : 0, s / 60);
    } else {
        snprintf(out, NUMBER_BYTES, "%.1f h", s / 3600);
    }
}

// ---- head --------------------------------------------------------------------------------------

static const char STYLE[] =
    ":root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--line:#e3e4e6;--text:#1d2126;"
    "--soft:#666d75;--mark:#2466a8;--pale:#2466a84d;--bar:#c9ced4;--good:#256b43;--bad:#a8322a}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#131619;--card:#1a1e22;--line:#2d3338;"
    "--text:#e2e5e8;--soft:#98a1a9;--mark:#79b0e8;--pale:#79b0e84d;--bar:#495159;--good:#7cc49a;"
    "--bad:#ee8e86}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"
    "'Segoe UI',Roboto,'Liberation Sans',Helvetica,Arial,sans-serif;"
    "font-variant-numeric:tabular-nums}\n"
    "main{max-width:1040px;margin:0 auto;padding:36px 20px 48px}\n"
    "header{margin-bottom:24px}\n"
    "h1{font-size:27px;line-height:1.2;margin:2px 0 6px;font-weight:650;letter-spacing:-.01em;"
    "overflow-wrap:anywhere}\n"
    "h2{font-size:17px;font-weight:650;margin:36px 0 12px}\n"
    ".kicker,.model,.note,footer{color:var(--soft);margin:0}\n"
    ".kicker{font-size:13px}.model{overflow-wrap:anywhere}\n"
    ".state{display:inline-block;font-weight:600;color:var(--soft)}\n"
    ".state.good{color:var(--good)}.state.bad{color:var(--bad)}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;"
    "background:var(--line);border:1px solid var(--line);border-radius:8px;overflow:hidden;"
    "margin:0}\n"
    ".figures div{background:var(--card);padding:13px 12px}\n"
    "dt{color:var(--soft);font-size:13px}\n"
    "dd{margin:1px 0 0;font-size:20px;font-weight:600;white-space:nowrap}\n"
    "dd small{font-size:12px;font-weight:400;color:var(--soft)}\n"
    ".main dd{color:var(--mark)}\n"
    ".charts{display:grid;grid-template-columns:repeat(6,1fr);gap:16px}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:0;"
    "padding:14px 16px 10px;min-width:0}\n"
    ".half{grid-column:span 3}.third{grid-column:span 2}\n"
    "figcaption{display:flex;gap:8px;align-items:baseline;font-weight:600;margin-bottom:6px}\n"
    "figcaption span{font-weight:400;font-size:13px;color:var(--soft)}\n"
    "figcaption b{margin-left:auto;font-weight:600}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}\n"
    "svg text{font-size:12px;fill:var(--soft)}\n"
    "text.step{text-anchor:middle}text.value,text.reference{text-anchor:end}\n"
    "svg path{fill:none}\n"
    "path.grid{stroke:var(--line)}path.axis,path.tick{stroke:var(--bar)}\n"
    "path.raw{stroke:var(--pale);stroke-width:1}\n"
    "path.curve{stroke:var(--mark);stroke-width:1.75;stroke-linejoin:round}\n"
    "text.reference{paint-order:stroke;stroke:var(--card);stroke-width:4px}\n"
    "path.reference{stroke:var(--soft);stroke-dasharray:4 4}\n"
    "circle.dot{fill:var(--mark)}\n"
    ".none{color:var(--soft);margin:24px 0}\n"
    ".bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:9px 14px;"
    "align-items:center;padding:16px}\n"
    ".bars i{display:block;height:14px;background:var(--bar);border-radius:2px}\n"
    ".bars span:nth-child(3n){text-align:right}"
    ".bars .ours{font-weight:600;color:var(--mark)}.bars i.ours{background:var(--mark)}\n"
    ".scroll{overflow-x:auto;padding:4px 16px}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:right;padding:7px 0 7px 18px;white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left;padding-left:0}\n"
    "th{font-weight:400;font-size:13px;color:var(--soft)}\n"
    "tbody tr,tfoot tr{border-top:1px solid var(--line)}tfoot td{font-weight:600}\n"
    "blockquote.card{margin:0 0 12px;padding:14px 18px}\n"
    "blockquote p{font:16px/1.6 Georgia,'Times New Roman','Liberation Serif',serif;"
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0 0;max-width:68ch}\n"
    "details{padding:12px 16px}summary{cursor:pointer;font-weight:600}\n"
    "pre{font:12.5px/1.55 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;"
    "overflow-x:auto;margin:10px 0 2px}\n"
    ".note{font-size:13px;margin-top:8px}footer{font-size:13px;margin-top:36px}\n"
    "@media(max-width:720px){main{padding:22px 14px 36px}.charts{gap:12px}"
    ".half,.third{grid-column:span 6}.figures{grid-template-columns:repeat(2,1fr)}"
    ".half text{font-size:15px}}\n";

// The last component of the directory's full path names the run.
static const char *run_name(const Report *r, char path[PATH_BYTES]) {
    char *full = realpath(r->dir, NULL);
    snprintf(path, PATH_BYTES, "%s", full != NULL ? full : r->dir);
    free(full);
    char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static void write_state(FILE *out, const Report *r) {
    char steps[NUMBER_BYTES], planned[NUMBER_BYTES];
    const char *kind = "", *text = r->exit_reason;
    if (text[0] == '\0') text = "still going on, or interrupted";
    if (r->exit_reason[0] != '\0' && r->exit_code == 0) kind = " good";
    if (r->exit_code > 0 && strcmp(r->exit_status, "E_STOPPED") != 0) kind = " bad";
    number__count(steps, r->steps);
    number__count(planned, r->planned_steps);
    fprintf(out, "<p class='state%s'>", kind);
    html_string(out, text);
    if (r->exit_code > 0) {
        fputs(" (", out);
        html_string(out, r->exit_status);
        fprintf(out, ", code %lld)", (long long)r->exit_code);
    }
    fprintf(out, " &middot; step %s", steps);
    if (r->planned_steps > r->steps) fprintf(out, " of %s", planned);
    fputs("</p>\n", out);
}

const char REPORT_KICKER[] = "<p class=kicker>Sterna training run</p>";

static void write_head(FILE *out, const Report *r) {
    char path[PATH_BYTES];
    const char *name = run_name(r, path);
    fputs("<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
          "<meta name=viewport content='width=device-width,initial-scale=1'>\n<title>",
          out);
    html_string(out, name);
    fprintf(out, " - Sterna</title>\n<style>\n%s</style>\n<main>\n<header>\n", STYLE);
    fprintf(out, "%s\n<h1>", REPORT_KICKER);
    html_string(out, name);
    fputs("</h1>\n", out);
    if (r->model[0] != '\0') {
        fputs("<p class=model>", out);
        html_string(out, r->model);
        fputs("</p>\n", out);
    }
    write_state(out, r);
    fputs("</header>\n", out);
}

// ---- figures and bars --------------------------------------------------------------------------

static void write_figure(FILE *out, const char *name, const char *value, const char *unit) {
    if (strcmp(value, "-") == 0) return;
    fprintf(out, "<div><dt>%s</dt><dd>%s <small>%s</small></dd></div>\n", name, value, unit);
}

static void write_figures(FILE *out, const Report *r) {
    char text[NUMBER_BYTES];
    if (r->loss.count == 0) return;
    fputs("<dl class=figures>\n", out);
    if (r->bits.count > 0) {
        fprintf(out,
                "<div class=main><dt>Held-out%s</dt><dd>%.3f <small>bits/byte</small></dd>"
                "</div>\n",
                r->is_final ? "" : ", so far", r->bits_per_byte);
    }
    if (isfinite(r->nats_per_token)) {
        snprintf(text, sizeof text, "%.3f", r->nats_per_token);
        write_figure(out, "Held-out", text, "nats/token");
    }
    number__short(text, (double)r->parameters);
    write_figure(out, "Parameters", text, "");
    number__short(text, (double)r->tokens_seen);
    write_figure(out, "Trained on", text, "tokens");
    duration_text(text, r->seconds);
    write_figure(out, "Training time", text, "");
    number__short(text, r->tokens_per_s);
    write_figure(out, "Speed", text, "tok/s");
    fputs("</dl>\n", out);
}

static void write_bar(FILE *out, const char *name, double value, double largest, bool ours) {
    const char *class_name = ours ? "ours" : "other";
    fprintf(out, "<span class=%s>", class_name);
    html_string(out, name);
    fprintf(out, "</span><i class=%s style='width:%.1f%%'></i><span class=%s>%.3f</span>\n",
            class_name, largest > 0 ? 100 * value / largest : 0, class_name, value);
}

// The model stands among the compressors, best first.
static void write_bars(FILE *out, const Report *r) {
    if (r->compressor_count == 0 || r->bits.count == 0) return;
    double largest = fmax(r->bits_per_byte, r->compressor[r->compressor_count - 1].value);
    int i = 0;
    fputs("<h2>Held-out text against compressors, bits/byte (less is better)</h2>\n"
          "<div class='card bars'>\n",
          out);
    for (; i < r->compressor_count && r->compressor[i].value < r->bits_per_byte; i++) {
        write_bar(out, r->compressor[i].name, r->compressor[i].value, largest, false);
    }
    write_bar(out, "this model", r->bits_per_byte, largest, true);
    for (; i < r->compressor_count; i++) {
        write_bar(out, r->compressor[i].name, r->compressor[i].value, largest, false);
    }
    fputs("</div>\n", out);
}

// ---- charts ------------------------------------------------------------------------------------

static void write_chart(FILE *out, const Chart *c, const char *place) {
    fprintf(out, "<figure class='card %s'><figcaption>", place);
    html_string(out, c->title);
    fprintf(out, " <span>%s</span>", c->unit);
    const Series *s = c->smooth != NULL ? c->smooth : c->points;
    if (s->count > 0) {
        char last[NUMBER_BYTES];
        double v = s->at[s->count - 1].y;
        if (v >= 1000) {
            number__short(last, v);
        } else {
            snprintf(last, sizeof last, c->dots ? "%.3f" : "%.4g", v);
        }
        fprintf(out, "<b>%s</b>", last);
    }
    fputs("</figcaption>\n", out);
    svg__chart(out, c);
    fputs("</figure>\n", out);
}

// Numbers that the run's objective and its other learners tell of.
static void write_curves(FILE *out, const Report *r, const Chart *size) {
    for (int i = 0; i < r->curve_count; i++) {
        Series mean;
        Chart c = *size;
        c.title = r->curve[i].name;
        c.points = &r->curve[i].points;
        series__smooth(&mean, c.points);
        c.smooth = &mean;
        write_chart(out, &c, "third");
        series__free(&mean);
    }
}

static void write_charts(FILE *out, const Report *r) {
    double last = (double)r->steps;
    if (r->bits.count > 0) last = fmax(last, r->bits.at[r->bits.count - 1].x);
    const Chart half = {.unit = "", .width = 470, .height = 250, .last_step = last};
    const Chart third = {.unit = "", .width = 340, .height = 190, .last_step = last};
    Chart loss = half, bits = half, rate = third, norm = third, speed = third;
    loss.title = "Training loss", loss.unit = "nats/token", loss.points = &r->loss;
    bits.title = "Held-out text", bits.unit = "bits/byte", bits.points = &r->bits;
    rate.title = "Learning rate", rate.points = &r->rate;
    norm.title = "Gradient norm", norm.unit = "log scale", norm.points = &r->norm;
    speed.title = "Throughput", speed.unit = "tokens/s", speed.points = &r->speed;
    bits.dots = rate.from_zero = norm.log_scale = speed.from_zero = true;
    if (r->compressor_count > 0) bits.reference = &r->compressor[0];

    // What is noisy is drawn pale, its running mean over it.
    Series means[3];
    Chart *noisy[3] = {&loss, &norm, &speed}, *all[] = {&loss, &bits, &rate, &norm, &speed};
    for (int i = 0; i < 3; i++) {
        series__smooth(&means[i], noisy[i]->points);
        noisy[i]->smooth = &means[i];
    }
    fputs("<h2>Training, by step</h2>\n<div class=charts>\n", out);
    for (int i = 0; i < 5; i++) write_chart(out, all[i], i < 2 ? "half" : "third");
    write_curves(out, r, &third);
    fputs("</div>\n", out);
    for (int i = 0; i < 3; i++) series__free(&means[i]);
}

// ---- exchanges, samples, configuration ---------------------------------------------------------

// Figures of one step. The share is of its time that went by with nothing else to do.
static void write_comm_row(FILE *out, const Report *r, const ReportComm *c) {
    char calls[NUMBER_BYTES];
    double n = r->comm_steps, per_calls = c->calls / n;
    snprintf(calls, sizeof calls, per_calls < 10 ? "%.1f" : "%.0f", per_calls);
    fputs("<tr><td>", out);
    html_string(out, c->name);
    fprintf(out, "</td><td>%s</td><td>%.3f</td><td>%.2f</td><td>%.2f</td><td>%.1f %%</td></tr>\n",
            calls, c->bytes / n / 1048576.0, 1e3 * c->wait_s / n, 1e3 * c->exposed_s / n,
            100 * c->exposed_s / r->comm_s);
}

static void write_comm_notes(FILE *out, const Report *r) {
    char steps[NUMBER_BYTES];
    number__count(steps, (int64_t)r->comm_steps);
    fprintf(out,
            "<p class=note>Mean of %lld ranks (dp %lld x sp %lld x tp %lld) over %s steps of the "
            "last process. In flight counts every exchange from its start to its end, so that "
            "exchanges at the same time add up to more than the time that passes; exposed is "
            "the part in which a rank did nothing else.",
            (long long)r->comm_ranks, (long long)r->comm_dp, (long long)r->comm_sp,
            (long long)r->comm_tp, steps);
    const ReportComm *b = &r->comm_between;
    fprintf(out,
            " Between steps (evaluation, checkpoints): %.0f calls, %.1f MiB a rank, %.2f s "
            "exposed in all.</p>\n",
            b->calls, b->bytes / 1048576.0, b->exposed_s);
}

static void write_comm(FILE *out, const Report *r) {
    if (r->comm_ranks < 2 || r->comm_count == 0 || !(r->comm_steps > 0) || !(r->comm_s > 0)) return;
    ReportComm sum = {.name = "all"};
    fputs("<h2>Communication, per step</h2>\n<div class='card scroll'><table>\n<thead><tr><th>"
          "exchange<th>calls<th>MiB sent a rank<th>ms in flight<th>ms exposed<th>share of the "
          "step</tr></thead>\n<tbody>\n",
          out);
    for (int i = 0; i < r->comm_count; i++) {
        write_comm_row(out, r, &r->comm[i]);
        report__add_comm(&sum, &r->comm[i]);
    }
    fputs("</tbody>\n<tfoot>", out);
    write_comm_row(out, r, &sum);
    fputs("</tfoot></table></div>\n", out);
    write_comm_notes(out, r);
}

// "step_00000300.txt" -> "Step 300".
static void write_sample(FILE *out, const Sample *s) {
    long long step;
    if (s->text == NULL) return;
    fputs("<blockquote class=card><span class=kicker>", out);
    if (sscanf(s->name, "step_%lld.txt", &step) == 1) {
        fprintf(out, "Step %lld", step);
    } else {
        html_string(out, s->name);
    }
    fputs("</span><p>", out);
    html__text(out, s->text, s->bytes);
    fputs("</p></blockquote>\n", out);
}

static void write_samples(FILE *out, const Report *r) {
    if (r->sample_count == 0) return;
    fputs("<h2>Samples, newest first</h2>\n", out);
    for (int i = 0; i < r->sample_count; i++) write_sample(out, &r->sample[i]);
}

static void write_config(FILE *out, const Report *r) {
    if (r->config == NULL) return;
    fputs("<h2>Configuration</h2>\n<details class=card><summary>Every key, its value and where it "
          "came from</summary><pre>",
          out);
    html_string(out, r->config);
    fputs("</pre></details>\n", out);
}

// What a reader may look for and not find.
static void write_missing(FILE *out, const Report *r) {
    const char *bad = r->unreadable;
    char unreadable[sizeof r->unreadable + 32];
    snprintf(unreadable, sizeof unreadable, "%s cannot be read", bad);
    const struct {
        bool missing;
        const char *text;
    } pieces[] = {
        {r->loss.count == 0, "metrics.jsonl has no training steps"},
        {r->bits.count == 0, "no held-out evaluation yet"},
        {r->source_count == 0 && !strstr(bad, "corpus.json"), "corpus.json is missing"},
        {r->compressor_count == 0, "no compressors.json to compare with"},
        {r->sample_count == 0, "no samples yet"},
        {r->config == NULL && !strstr(bad, "config.res"), "config.resolved.yaml is missing"},
        {r->exit_reason[0] == '\0' && !strstr(bad, "exit.json"), "exit.json is missing"},
        {r->torn_lines > 0, "metrics.jsonl has lines that cannot be read"},
        {r->damage[0] != '\0', r->damage},
        {r->lost_values > 0, "metrics.jsonl has values that are not finite"},
        {bad[0] != '\0', unreadable},
    };
    const char *before = "<footer>Not in this report: ";
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        if (!pieces[i].missing) continue;
        fputs(before, out);
        html_string(out, pieces[i].text);
        before = "; ";
    }
    if (before[0] == ';') fputs(".</footer>\n", out);
}

Status report__write_page(const Report *r, char path[PATH_BYTES]) {
    char *page = NULL;
    size_t bytes = 0;
    path_join(path, r->dir, "report.html");
    TRY(report__check(r->dir, path));
    FILE *out = open_memstream(&page, &bytes);
    ASSERT(out != NULL);
    write_head(out, r);
    write_figures(out, r);
    write_bars(out, r);
    write_charts(out, r);
    report__write_corpus(out, r);
    write_comm(out, r);
    write_samples(out, r);
    write_config(out, r);
    write_missing(out, r);
    fputs("</main>\n</html>\n", out);
    bool whole = fclose(out) == 0;
    ASSERT(whole);  // fails for want of memory only
    Status st = file_write(path, page, bytes);
    free(page);
    return st;
}

Status report_write(const char *run_dir) {
    Report r;
    char path[PATH_BYTES];
    TRY(report__read(&r, run_dir));
    Status st = report__write_page(&r, path);
    report__free(&r);
    return st;
}
