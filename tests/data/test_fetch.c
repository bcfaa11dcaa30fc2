// Downloads from a server that cuts, refuses, lies and dawdles; what APT prints; SHA-256's
// published vectors.
#include "data/fetch.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/clock.h"
#include "bad_server.h"
#include "data/command.h"
#include "data/package.h"
#include "data/sha256.h"
#include "tests/ref/tree.h"

typedef struct Rig {
    BadServer server;
    char dir[PATH_BYTES], path[PATH_BYTES], part[PATH_BYTES], sha256[65];
    FetchWant want;
    FetchPolicy policy;
    FetchReport report;
} Rig;

static void rig_open(Rig *r) {
    server_open(&r->server);
    snprintf(r->dir, sizeof r->dir, "/tmp/sterna_fetch_XXXXXX");
    cr_assert_not_null(mkdtemp(r->dir));
    path_join(r->path, r->dir, "file");
    path_join(r->part, r->dir, "file.sterna-part");
    Sha256 sum;
    sha256_init(&sum);
    sha256_add(&sum, r->server.body, BODY_BYTES);
    sha256_hex(&sum, r->sha256);
    r->want = (FetchWant){BODY_BYTES, r->sha256};
    r->policy = FETCH_POLICY;
    r->policy.backoff_s = 0.01;
    r->policy.backoff_cap_s = 0.05;
    r->policy.stall_s = 1;
    r->policy.proxy = "";  // the machine's own must not see these requests
}

static void rig_close(Rig *r) {
    server_close(&r->server);
    cr_assert_eq(tree_remove(r->dir), OK);
}

static Status rig_fetch(Rig *r, const char *path) {
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", r->server.port, path);
    return fetch_file(url, r->path, &r->want, &r->policy, &r->report);
}

static void check_file(const Rig *r) {
    char *text;
    size_t bytes;
    cr_assert_eq(file_read(r->path, &text, &bytes), OK, "%s", err_message());
    cr_assert_eq(bytes, BODY_BYTES);
    cr_assert_eq(memcmp(text, r->server.body, bytes), 0);
    cr_assert_not(path_exists(r->part));
    free(text);
}

Test(fetch, gets_a_file_in_one_connection_and_then_leaves_it_alone) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/good"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_eq(r.report.tries, 1);
    cr_assert_eq(rig_fetch(&r, "/good"), OK);
    cr_assert_eq(r.report.tries, 0);
    cr_assert_eq(atomic_load(&r.server.requests), 1);
    rig_close(&r);
}

Test(fetch, resumes_where_a_cut_connection_stopped) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/cut"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_geq(r.report.resumed, 2);
    cr_assert_eq(r.report.bytes, BODY_BYTES, "nothing is sent twice");
    rig_close(&r);
}

Test(fetch, resumes_a_part_left_by_an_earlier_run) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(file_write(r.part, r.server.body, 5000), OK);
    cr_assert_eq(rig_fetch(&r, "/good"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_eq(r.server.last_range, 5000);
    rig_close(&r);
}

Test(fetch, drops_a_part_that_is_of_another_file) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(file_write(r.part, "something else", 14), OK);
    cr_assert_eq(rig_fetch(&r, "/good"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_eq(r.report.tries, 2);
    rig_close(&r);
}

Test(fetch, starts_over_when_the_server_cannot_resume) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/norange"), OK, "%s", err_message());
    check_file(&r);
    rig_close(&r);
}

Test(fetch, never_resumes_without_a_checksum) {
    Rig r;
    rig_open(&r);
    r.want.sha256 = NULL;
    cr_assert_eq(file_write(r.part, r.server.body, 5000), OK);
    cr_assert_eq(rig_fetch(&r, "/good"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_eq(r.server.last_range, 0);
    rig_close(&r);
}

Test(fetch, waits_as_long_as_a_busy_server_asks) {
    Rig r;
    rig_open(&r);
    r.policy.backoff_cap_s = 0.4;  // Retry-After says 1 s: cut to the cap
    double begin = clock_s();
    cr_assert_eq(rig_fetch(&r, "/busy"), OK, "%s", err_message());
    check_file(&r);
    cr_assert_eq(r.report.waits, 2);
    cr_assert_geq(clock_s() - begin, 0.75);
    rig_close(&r);
}

Test(fetch, a_refusal_is_not_tried_again) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/missing"), E_NETWORK);
    cr_assert_eq(r.report.tries, 1);
    cr_assert_not_null(strstr(err_message(), "404"));
    cr_assert_not(path_exists(r.path));
    rig_close(&r);
}

Test(fetch, gives_up_redirect_loops_and_redirects_to_files) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/loop"), E_NETWORK);
    cr_assert_eq(atomic_load(&r.server.requests), 6, "the first and five redirects");
    cr_assert_eq(rig_fetch(&r, "/tofile"), E_NETWORK);
    cr_assert_not(path_exists(r.path));
    rig_close(&r);
}

Test(fetch, refuses_wrong_sizes_and_wrong_bytes) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/short"), E_FORMAT);
    cr_assert_eq(rig_fetch(&r, "/wrong"), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "checksum"));
    cr_assert_not(path_exists(r.path));
    cr_assert_not(path_exists(r.part));
    rig_close(&r);
}

Test(fetch, stops_a_server_that_sends_without_end) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(rig_fetch(&r, "/endless"), E_FORMAT);
    cr_assert_lt(r.report.bytes, 20 * BODY_BYTES);
    rig_close(&r);
}

Test(fetch, gives_up_on_a_stalled_transfer_and_keeps_the_part) {
    Rig r;
    rig_open(&r);
    r.policy.tries = 2;
    double begin = clock_s();
    cr_assert_eq(rig_fetch(&r, "/drip"), E_NETWORK);
    cr_assert_lt(clock_s() - begin, 15);
    cr_assert_eq(r.report.tries, 2);
    cr_assert(path_exists(r.part));
    rig_close(&r);
}

Test(fetch, an_unreachable_server_is_given_up_after_all_tries) {
    Rig r;
    rig_open(&r);
    r.policy.tries = 3;
    cr_assert_eq(rig_fetch(&r, "/silent"), E_NETWORK);  // closes without an answer
    cr_assert_eq(r.report.tries, 3);
    cr_assert_eq(fetch_file("ftp://127.0.0.1/x", r.path, &r.want, &r.policy, &r.report), E_NETWORK);
    cr_assert_eq(fetch_file("http://127.0.0.1:1/x", r.path, &r.want, &r.policy, &r.report),
                 E_NETWORK);
    rig_close(&r);
}

// Not the network's fault: nothing may be put in the place of what was asked for.
Test(fetch, a_disk_that_takes_no_more_is_another_failure_than_the_network) {
    Rig r;
    rig_open(&r);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 5000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    Status st = rig_fetch(&r, "/good");
    setrlimit(RLIMIT_FSIZE, &before);
    cr_assert_eq(st, E_IO, "%s", err_message());
    cr_assert_not_null(strstr(err_message(), "file.sterna-part: File too large"), "%s",
                       err_message());
    cr_assert_eq(r.report.tries, 1);
    cr_assert_eq(remove(r.part), 0);

    char inside[PATH_BYTES];
    path_join(inside, r.part, "x");
    cr_assert_eq(dir_make(inside), OK);
    cr_assert_eq(rig_fetch(&r, "/good"), E_IO);
    cr_assert_not_null(strstr(err_message(), "Is a directory"), "%s", err_message());
    rig_close(&r);
}

Test(fetch, a_file_that_cannot_be_read_is_not_fetched_again) {
    Rig r;
    rig_open(&r);
    cr_assert_eq(symlink("file", r.path), 0);
    cr_assert_eq(rig_fetch(&r, "/good"), E_IO);
    cr_assert_eq(atomic_load(&r.server.requests), 0);
    rig_close(&r);
}

Test(sha256, equals_the_published_vectors_however_the_text_is_cut) {
    static const struct {
        const char *text, *hex;
    } V[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
             {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
             {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    for (size_t i = 0; i < sizeof V / sizeof *V; i++) {
        for (size_t step = 1; step < 60; step += 7) {
            Sha256 s;
            char hex[65];
            sha256_init(&s);
            size_t n = strlen(V[i].text);
            for (size_t at = 0; at < n; at += step) {
                sha256_add(&s, V[i].text + at, n - at < step ? n - at : step);
            }
            sha256_hex(&s, hex);
            cr_assert_str_eq(hex, V[i].hex);
        }
    }
    // A million times "a", in odd pieces.
    static char piece[997];
    memset(piece, 'a', sizeof piece);
    Sha256 s;
    char hex[65];
    sha256_init(&s);
    for (size_t left = 1000000; left > 0;) {
        size_t n = left < sizeof piece ? left : sizeof piece;
        sha256_add(&s, piece, n);
        left -= n;
    }
    sha256_hex(&s, hex);
    cr_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Test(package, reads_what_apt_prints_and_refuses_paths) {
    PackageUri u;
    const char sum[] = "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95";
    char line[256];
    snprintf(line, sizeof line, "'http://a.example/p/x_1%%2b2.deb' x_1+2.deb 1626392 SHA256:%s\n",
             sum);
    cr_assert_eq(package_uri_parse(&u, line), OK, "%s", err_message());
    cr_assert_str_eq(u.url, "http://a.example/p/x_1%2b2.deb");
    cr_assert_str_eq(u.file, "x_1+2.deb");
    cr_assert_eq(u.bytes, 1626392);
    cr_assert_str_eq(u.sha256, sum);

    cr_assert_eq(package_uri_parse(&u, "'http://a.example/x.deb' x.deb 12 MD5Sum:00aa\n"), OK);
    cr_assert_str_eq(u.sha256, "");
    cr_assert_eq(package_uri_parse(&u, "'http://a/x.deb' ../x.deb 12 SHA256:00\n"), E_FORMAT);
    cr_assert_eq(package_uri_parse(&u, "'http://a/x.deb' .. 12 SHA256:00\n"), E_FORMAT);
    cr_assert_eq(package_uri_parse(&u, "E: Unable to locate package x"), E_FORMAT);
    cr_assert_eq(package_uri_parse(&u, ""), E_FORMAT);
}

// --- package_fetch with an APT of our own in PATH ---

static void script_write(const Rig *r, const char *name, const char *text) {
    char path[PATH_BYTES];
    path_join(path, r->dir, name);
    cr_assert_eq(file_write(path, text, strlen(text)), OK);
    cr_assert_eq(chmod(path, 0755), 0);
}

// An apt-get that names `url` as the place of small_1.deb and can "download" it by itself when
// `works`.
static void apt_make(Rig *r, const char *url, const char *proxy, bool works) {
    char text[1024], path[2 * PATH_BYTES];
    snprintf(text, sizeof text,
             "#!/bin/sh\n"
             "case $1 in --print-uris) echo \"N: a note\"; "
             "echo \"'%s' small_1.deb %d SHA256:%s\" ;;\n"
             "*) %s ;; esac\n",
             url, BODY_BYTES, r->sha256,
             works ? "cp ../original small_1.deb" : "echo broken >&2; exit 100");
    script_write(r, "apt-get", text);
    snprintf(text, sizeof text, "#!/bin/sh\necho 'Acquire::http::Proxy::host \"x\";'\n%s%s%s\n",
             proxy[0] ? "echo 'Acquire::http::Proxy \"" : "", proxy, proxy[0] ? "\";'" : "");
    script_write(r, "apt-config", text);
    snprintf(path, sizeof path, "%s:/usr/bin:/bin", r->dir);
    setenv("PATH", path, 1);
    unsetenv("http_proxy");
    path_join(path, r->dir, "original");
    cr_assert_eq(file_write(path, r->server.body, BODY_BYTES), OK);
    path_join(path, r->dir, "packages");
    cr_assert_eq(dir_make(path), OK);
}

static bool fits(const Rig *r) {
    bool yes;
    cr_assert_eq(fetch_check(r->path, &r->want, &yes), OK, "%s", err_message());
    return yes;
}

static Status package_get(Rig *r) {
    char packages[PATH_BYTES];
    path_join(packages, r->dir, "packages");
    return package_fetch(r->path, "small", packages);
}

Test(package, is_downloaded_from_where_apt_says) {
    Rig r;
    char url[64];
    rig_open(&r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/good", r.server.port);
    apt_make(&r, url, "DIRECT", false);
    cr_assert_eq(package_get(&r), OK, "%s", err_message());
    cr_assert(fits(&r));
    cr_assert_eq(atomic_load(&r.server.requests), 1);
    cr_assert_eq(package_get(&r), OK);
    cr_assert_eq(atomic_load(&r.server.requests), 1, "it lies there");
    rig_close(&r);
}

Test(package, is_downloaded_through_apts_proxy) {
    Rig r;
    char proxy[64];
    rig_open(&r);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d/", r.server.port);
    apt_make(&r, "http://archive.invalid/good", proxy, false);
    cr_assert_eq(package_get(&r), OK, "%s", err_message());
    cr_assert(fits(&r));
    rig_close(&r);
}

Test(package, is_left_to_apt_when_we_cannot_fetch_it) {
    Rig r;
    rig_open(&r);
    apt_make(&r, "mirror+file:/etc/mirrors/good", "", true);
    cr_assert_eq(package_get(&r), OK, "%s", err_message());
    cr_assert(fits(&r));
    rig_close(&r);
}

Test(package, that_nobody_can_fetch_is_out_of_reach_with_apts_reason) {
    Rig r;
    char url[64];
    rig_open(&r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/missing", r.server.port);
    apt_make(&r, url, "", false);
    cr_assert_eq(package_get(&r), E_NETWORK);
    cr_assert_not_null(strstr(err_message(), "small"));
    cr_assert_not_null(strstr(err_message(), "broken"));
    rig_close(&r);
}

Test(package, that_finds_no_room_is_not_out_of_reach) {
    Rig r;
    char url[64], packages[PATH_BYTES], part[PATH_BYTES];
    rig_open(&r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/good", r.server.port);
    apt_make(&r, url, "", true);
    path_join(packages, r.dir, "packages");
    path_join(part, packages, "small_1.deb.sterna-part/x");
    cr_assert_eq(dir_make(part), OK);
    cr_assert_eq(package_get(&r), E_IO, "%s", err_message());
    // APT's own failure is looked into: here its directory is gone.
    apt_make(&r, "mirror+file:/etc/mirrors/good", "", false);
    script_write(&r, "apt-config", "#!/bin/sh\nrm -rf packages\n");
    cr_assert_eq(chdir(r.dir), 0);
    cr_assert_eq(package_get(&r), E_IO, "%s", err_message());
    rig_close(&r);
}

Test(command, gives_output_failure_reason_and_timeout) {
    char *text;
    const char *const echo[] = {"sh", "-c", "echo one; pwd", NULL};
    cr_assert_eq(command_read(&text, echo, "/", 10), OK, "%s", err_message());
    cr_assert_str_eq(text, "one\n/\n");
    free(text);
    const char *const fail[] = {"sh", "-c", "echo noise >&2; echo the reason >&2; exit 3", NULL};
    cr_assert_eq(command_read(&text, fail, NULL, 10), E_NETWORK);
    cr_assert_not_null(strstr(err_message(), "the reason"));
    const char *const slow[] = {"sleep", "60", NULL};
    double begin = clock_s();
    cr_assert_eq(command_read(&text, slow, NULL, 0.2), E_NETWORK);
    cr_assert_lt(clock_s() - begin, 10);
    const char *const none[] = {"sterna-no-such-program", NULL};
    cr_assert_eq(command_read(&text, none, NULL, 1), E_NETWORK);
    const char *const big[] = {"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x", NULL};
    cr_assert_eq(command_read(&text, big, NULL, 20), OK);
    cr_assert_eq(strlen(text), 1 << 20);
    free(text);
}
