// Asking APT, then downloading by ourselves (resumable, with progress of our own), then by APT
// (which knows transports and proxies that we do not), then looking for a copy that somebody left.
#include "data/package.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/archive.h"
#include "data/command.h"
#include "data/fetch.h"

static const double ASK_S = 60, APT_DOWNLOAD_S = 900;

static const char HINT[] = "run apt-get update as root, or train with data.offline=true";

Status package_uri_parse(PackageUri *uri, const char *text) {
    char kind[32] = "", hash[160] = "";
    unsigned long long bytes = 0;
    *uri = (PackageUri){.bytes = 0};
    int fields = sscanf(text, "'%1023[^']' %255s %llu %31[^: \n]:%159s", uri->url, uri->file,
                        &bytes, kind, hash);
    // The name becomes a file of ours: it must not be a path.
    bool plain = fields >= 3 && strchr(uri->file, '/') == NULL && path_safe(uri->file);
    if (!plain || bytes == 0) {
        FAIL(E_FORMAT, HINT, "apt-get --print-uris printed '%.100s'", text);
    }
    uri->bytes = bytes;
    if (strcmp(kind, "SHA256") == 0 && strlen(hash) == 64) memcpy(uri->sha256, hash, 65);
    return OK;
}

// Where APT would get the package; needs the package lists, not the network.
static Status uri_ask(PackageUri *uri, const char *package) {
    const char *const argv[] = {"apt-get", "--print-uris", "download", package, NULL};
    char *text;
    // In a directory without packages: APT prints nothing for one that lies there already.
    TRY(command_read(&text, argv, "/", ASK_S));
    // Notes may precede the line.
    const char *quote = strchr(text, '\'');
    Status st = package_uri_parse(uri, quote == NULL ? text : quote);
    free(text);
    return st;
}

// The proxy of APT's own configuration: Acquire::http::Proxy "http://host:port/"; or DIRECT. false:
// none is set.
static bool proxy_ask(char *proxy, size_t capacity, const char *url) {
    bool secure = strncmp(url, "https:", 6) == 0;
    const char *key = secure ? "Acquire::https::Proxy" : "Acquire::http::Proxy";
    const char *const argv[] = {"apt-config", "dump", key, NULL};
    char *text, value[512] = "";
    if (command_read(&text, argv, NULL, ASK_S) != OK) {
        err_clear();
        return false;
    }
    // Lines for single hosts (Acquire::http::Proxy::HOST) have more of a key before their value.
    char start[64];
    snprintf(start, sizeof start, "%s \"", key);
    const char *line = strstr(text, start);
    bool found = line != NULL && sscanf(line + strlen(start), "%511[^\"]", value) == 1;
    free(text);
    snprintf(proxy, capacity, "%s", strcmp(value, "DIRECT") == 0 ? "" : value);
    return found;
}

// By libcurl, with the proxy that APT would use.
static Status uri_download(const PackageUri *uri, const char *path) {
    char proxy[512];
    FetchPolicy policy = FETCH_POLICY;
    policy.tries = 3;  // apt-get is still to come, and then the sample: do not keep people waiting
    policy.connect_s = 10;
    if (proxy_ask(proxy, sizeof proxy, uri->url)) policy.proxy = proxy;
    FetchWant want = {uri->bytes, uri->sha256};
    FetchReport report;
    if (uri->sha256[0] == '\0') FAIL(E_NETWORK, HINT, "%s: APT names no SHA-256", uri->file);
    return fetch_file(uri->url, path, &want, &policy, &report);
}

// By APT itself: slower to fail, but it knows mirrors, credentials and transports of its own.
static Status apt_download(const char *package, const char *dir) {
    const char *const argv[] = {
        "apt-get", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0", "download",
        package,   NULL};
    char *text;
    Status st = command_read(&text, argv, dir, APT_DOWNLOAD_S);
    // APT does not say in numbers what failed: where nothing can be written, that was it.
    if (st == E_NETWORK) TRY(dir_probe(dir));
    if (st == OK) free(text);
    return st;
}

typedef struct Copy {
    const char *package;
    char name[256];  // the last in order, hence mostly the newest
} Copy;

// PACKAGE_VERSION_ARCH.deb
static Status copy_visit(const char *name, void *user) {
    Copy *copy = user;
    size_t n = strlen(copy->package), m = strlen(name);
    bool fits = m > n + 5 && strncmp(name, copy->package, n) == 0 && name[n] == '_' &&
                strcmp(name + m - 4, ".deb") == 0 && m < sizeof copy->name;
    if (fits) memcpy(copy->name, name, m + 1);
    return OK;
}

// A copy somebody put there, for machines without APT or network.
static Status copy_find(char path[PATH_BYTES], const char *package, const char *dir) {
    Copy copy = {.package = package};
    TRY(dir_each(dir, copy_visit, &copy));
    if (copy.name[0] == '\0') FAIL(E_NETWORK, HINT, "%s: no package %s_*.deb", dir, package);
    path_join(path, dir, copy.name);
    return OK;
}

// What APT or a mirror gets wrong is out of reach for us, like what does not answer.
static bool is_remote(Status st) {
    return st == E_NETWORK || st == E_FORMAT;
}

// E_NETWORK, E_FORMAT: neither we nor APT can get it.
static Status package_download(char path[PATH_BYTES], const char *package, const char *dir) {
    PackageUri uri;
    bool fits;
    TRY(uri_ask(&uri, package));
    FetchWant want = {uri.bytes, uri.sha256};
    path_join(path, dir, uri.file);
    TRY(fetch_check(path, &want, &fits));
    if (fits) return OK;
    Status there = path_look(path);
    if (there == OK)
        FAIL(E_USAGE, "move it away to have the archive's fetched",
             "%s is not the file that the archive has", path);
    if (there != E_MISSING) return there;
    log_info("data: fetching %s (%.1f MB)", uri.file, (double)uri.bytes / 1e6);
    Status st = uri_download(&uri, path);
    if (!is_remote(st)) return st;
    TRY(apt_download(package, dir));
    TRY(fetch_check(path, &want, &fits));
    if (fits) return OK;
    TRY(file_remove(path));  // there was none before
    FAIL(E_NETWORK, HINT, "%s: APT brought another file", uri.file);
}

Status package_fetch(char path[PATH_BYTES], const char *package, const char *dir) {
    Status st = package_download(path, package, dir);
    if (!is_remote(st)) return st;
    // Keep APT's reason in case there is no copy either.
    char why[1024];
    snprintf(why, sizeof why, "%s", err_message());
    st = copy_find(path, package, dir);
    if (st == OK) err_clear();
    if (st != E_NETWORK) return st;
    FAIL(E_NETWORK, HINT, "package %s cannot be fetched: %s", package, why);
}
