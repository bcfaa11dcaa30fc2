// Downloads over http and https: resumed, retried, limited, checked. The only file that knows
// libcurl.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

// How hard to try. Times in seconds.
typedef struct FetchPolicy {
    const char *proxy;     // NULL: the environment's, "": none
    int tries;             // connections in all
    double backoff_s;      // longest wait after the first failure; doubles with each further one
    double backoff_cap_s;  // no wait is longer, also not one asked for by Retry-After
    int connect_s;         // to connect
    int stall_s;           // give up a transfer slower than stall_bytes a second for that long
    int stall_bytes;
    uint64_t max_bytes;  // largest file
    uint64_t seed;       // of the random part of the waits
} FetchPolicy;
extern const FetchPolicy FETCH_POLICY;

// What the file must be. Without a checksum a partial download is never resumed: it could be of
// another version.
typedef struct FetchWant {
    uint64_t bytes;      // 0: unknown
    const char *sha256;  // 64 lower-case hexadecimal digits; "" or NULL: unknown
} FetchWant;

typedef struct FetchReport {
    int tries;       // connections made
    int resumed;     // of those, continued where an earlier one had stopped
    int waits;       // pauses between them
    uint64_t bytes;  // received, lost ones included
} FetchReport;

// Makes `path` the file at `url`; a file that is there and fits `want` is left alone. Data grow in
// path.part, which survives a failure. E_NETWORK: not reachable, refused, cut off; E_FORMAT: wrong
// size or checksum, twice; E_IO: the disk. Not collective.
Status fetch_file(const char *url, const char *path, const FetchWant *want,
                  const FetchPolicy *policy, FetchReport *report) CHECKED;
// *fits: the file exists with the wanted size and checksum. E_IO: that cannot be said.
Status fetch_check(const char *path, const FetchWant *want, bool *fits) CHECKED;
