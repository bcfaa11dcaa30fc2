// A download is a loop over connections. Each ends in one of four ways: done, retry (network
// trouble, 408, 425, 429, 5xx), restart (the server cannot resume, or what came was wrong), or give
// up (any other refusal). Waits are exponential with full jitter ("Exponential Backoff And Jitter",
// AWS Architecture Blog, 2015), or what Retry-After asks for.
#include "data/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/sha256.h"

enum { MAX_REDIRECTS = 5, MAX_RESTARTS = 2 };

const FetchPolicy FETCH_POLICY = {.tries = 8,
                                  .backoff_s = 1,
                                  .backoff_cap_s = 60,
                                  .connect_s = 20,
                                  .stall_s = 30,
                                  .stall_bytes = 1024,
                                  .max_bytes = (uint64_t)4 << 30};

typedef enum { TRY_DONE, TRY_AGAIN, TRY_RESTART, TRY_STOP } Outcome;

// One file being downloaded.
typedef struct Download {
    const char *url, *path;
    const FetchWant *want;
    const FetchPolicy *policy;
    FetchReport *report;
    char part[PATH_BYTES];
    char reason[CURL_ERROR_SIZE + 64];  // why the latest connection failed
    double retry_after_s;               // < 0: the server did not say
    FILE *out;
    uint64_t have;  // bytes in the .part file
    bool too_big;
    int disk_error;  // errno of the disk, 0: it is not to blame
} Download;

static const char DISK[] = "check permissions and free space of data.cache";

Status fetch_check(const char *path, const FetchWant *want, bool *fits) {
    *fits = false;
    Status there = path_look(path);
    if (there == E_MISSING) return OK;
    TRY(there);
    FILE *f = fopen(path, "rb");
    if (f == NULL) FAIL(E_IO, DISK, "cannot read %s: %s", path, strerror(errno));
    Sha256 sum;
    sha256_init(&sum);
    char buffer[16384], hex[65];
    uint64_t total = 0;
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0; total += n) {
        sha256_add(&sum, buffer, n);
    }
    int error = ferror(f) ? errno : 0;
    fclose(f);
    if (error != 0) FAIL(E_IO, DISK, "cannot read %s: %s", path, strerror(error));
    sha256_hex(&sum, hex);
    bool size_fits = want->bytes == 0 || want->bytes == total;
    bool hash_fits =
        want->sha256 == NULL || want->sha256[0] == '\0' || strcmp(want->sha256, hex) == 0;
    *fits = size_fits && hash_fits;
    return OK;
}

// A known size is the limit itself: one byte more is already wrong.
static uint64_t size_limit(const Download *d) {
    return d->want->bytes > 0 ? d->want->bytes : d->policy->max_bytes;
}

// libcurl's sink. Returning less than was given ends the transfer; the flags tell why.
static size_t receive(char *data, size_t one, size_t bytes, void *user) {
    (void)one;  // always 1
    Download *d = user;
    d->report->bytes += bytes;
    d->too_big = d->have + bytes > size_limit(d);
    if (d->too_big) return 0;
    if (fwrite(data, 1, bytes, d->out) != bytes) {
        d->disk_error = errno;
        return 0;
    }
    d->have += bytes;
    return bytes;
}

// All limits of one connection; see FetchPolicy for their meaning.
static void set_options(CURL *c, Download *d) {
    const FetchPolicy *p = d->policy;
    bool secure = strncmp(d->url, "https:", 6) == 0;
    curl_easy_setopt(c, CURLOPT_URL, d->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    // A redirect must not lead from an encrypted connection to a plain one.
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);  // the page of an error is no part of the file
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "sterna");
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)p->connect_s);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)p->stall_s);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)p->stall_bytes);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, d->reason);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, d);
    if (p->proxy != NULL) curl_easy_setopt(c, CURLOPT_PROXY, p->proxy);
    if (d->have > 0) curl_easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)d->have);
}

// What an HTTP status above 399 means for us.
static Outcome classify_http(Download *d, long code) {
    snprintf(d->reason, sizeof d->reason, "the server answered %ld", code);
    if (code == 416) return TRY_RESTART;  // our part is longer than the file
    if (code == 408 || code == 425 || code == 429 || code >= 500) return TRY_AGAIN;
    return TRY_STOP;
}

// Turns the result of a connection into what to do next, and keeps the reason for the message.
static Outcome classify(Download *d, CURL *c, CURLcode rc) {
    if (rc == CURLE_OK) return TRY_DONE;
    if (d->reason[0] == '\0') snprintf(d->reason, sizeof d->reason, "%s", curl_easy_strerror(rc));
    long code = 0;
    curl_off_t wait = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &wait);
    d->retry_after_s = wait > 0 ? (double)wait : -1;
    if (d->too_big) {
        snprintf(d->reason, sizeof d->reason, "sends more than the %llu bytes allowed",
                 (unsigned long long)size_limit(d));
        return TRY_RESTART;
    }
    if (d->disk_error != 0) return TRY_STOP;
    switch (rc) {
    case CURLE_HTTP_RETURNED_ERROR:
        return classify_http(d, code);
    case CURLE_RANGE_ERROR:  // a whole file (200) or another range came: begin again
        return TRY_RESTART;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return TRY_STOP;
    default:  // resolving, connecting, stalling, being cut off
        return TRY_AGAIN;
    }
}

// One connection: appends to the .part file.
static Outcome connect_once(Download *d) {
    d->reason[0] = '\0';
    d->retry_after_s = -1;
    d->too_big = false;
    d->out = fopen(d->part, "ab");
    d->disk_error = d->out == NULL ? errno : 0;
    CURL *c = curl_easy_init();
    Outcome outcome = TRY_STOP;
    if (d->out != NULL && c != NULL) {
        if (d->have > 0) d->report->resumed++;
        d->report->tries++;
        set_options(c, d);
        outcome = classify(d, c, curl_easy_perform(c));
    }
    curl_easy_cleanup(c);
    if (d->out != NULL && fclose(d->out) != 0 && d->disk_error == 0) d->disk_error = errno;
    return d->disk_error != 0 ? TRY_STOP : outcome;
}

// Full jitter: uniform between 0 and the exponential bound, so that many clients do not come back
// together.
static void wait_before(Download *d, int failures) {
    double bound = d->policy->backoff_s;
    for (int i = 1; i < failures && bound < d->policy->backoff_cap_s; i++) bound *= 2;
    double wait = d->retry_after_s;
    if (wait < 0) {
        wait = bound * rng_uniform(d->policy->seed, STREAM_DATA, (uint64_t)failures);
    }
    if (wait > d->policy->backoff_cap_s) wait = d->policy->backoff_cap_s;
    d->report->waits++;
    struct timespec t = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

// Begins again from nothing.
static void part_discard(Download *d) {
    remove(d->part);
    d->have = 0;
}

// What an earlier run left, if it can be trusted to belong to the same file.
static void part_adopt(Download *d) {
    uint64_t bytes = 0;
    bool known = d->want->sha256 != NULL && d->want->sha256[0] != '\0';
    bool usable = known && file_size(d->part, &bytes) == OK && bytes < size_limit(d);
    if (usable) {
        d->have = bytes;
    } else {
        part_discard(d);
    }
    err_clear();
}

// Only a checked file gets its name: whoever sees it can use it.
static Status part_accept(Download *d) {
    if (rename(d->part, d->path) != 0) FAIL(E_IO, DISK, "%s: %s", d->path, strerror(errno));
    return OK;
}

// Why the last connection was the last.
static Status give_up(const Download *d) {
    if (d->disk_error != 0)
        FAIL(E_IO, DISK, "cannot write %s: %s", d->part, strerror(d->disk_error));
    FAIL(E_NETWORK, "check the network and the proxy, or train with data.offline=true", "%s: %s",
         d->url, d->reason);
}

// The loop over connections: see the top of the file.
static Status download(Download *d) {
    bool known = d->want->sha256 != NULL && d->want->sha256[0] != '\0';
    int failures = 0, restarts = 0;
    part_adopt(d);
    while (d->report->tries < d->policy->tries) {
        Outcome outcome = connect_once(d);
        bool fits = false;
        if (outcome == TRY_DONE) TRY(fetch_check(d->part, d->want, &fits));
        if (fits) return part_accept(d);
        if (outcome == TRY_DONE) {
            snprintf(d->reason, sizeof d->reason, "size or checksum is wrong");
            outcome = TRY_RESTART;
        }
        if (outcome == TRY_STOP) break;
        if (outcome == TRY_RESTART) {
            part_discard(d);
            if (++restarts <= MAX_RESTARTS) continue;
            FAIL(E_FORMAT, "refresh the package lists (apt-get update) or use another mirror",
                 "%s: %s", d->url, d->reason);
        }
        // Without a checksum the rest could come from another version of the file.
        if (!known) part_discard(d);
        failures++;
        if (d->report->tries < d->policy->tries) wait_before(d, failures);
    }
    return give_up(d);
}

Status fetch_file(const char *url, const char *path, const FetchWant *want,
                  const FetchPolicy *policy, FetchReport *report) {
    *report = (FetchReport){0};
    bool nothing_known = want->bytes == 0 && (want->sha256 == NULL || want->sha256[0] == '\0');
    bool fits = false;
    if (!nothing_known) TRY(fetch_check(path, want, &fits));
    if (fits) return OK;
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        FAIL(E_NETWORK, "give an http or https address", "%s: not an http or https address", url);
    }
    Download d = {.url = url, .path = path, .want = want, .policy = policy, .report = report};
    int n = snprintf(d.part, sizeof d.part, "%s.sterna-part", path);  // a name of ours
    if (n >= (int)sizeof d.part) FAIL(E_IO, "use a shorter path", "%s: path is too long", path);

    // Counted by libcurl: several calls are fine, and the last clean-up frees everything.
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        FAIL(E_IO, "check the installation of libcurl", "libcurl cannot start");
    }
    Status st = download(&d);
    curl_global_cleanup();
    return st;
}
