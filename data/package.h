// Packages of the distribution the machine is configured for. APT is asked where a package lies and
// what its checksum is; no address of any archive is known here. Needs no root rights.
#pragma once

#include "base/file.h"
#include "base/status.h"

typedef struct PackageUri {
    char url[1024];
    char file[256];  // plain file name
    uint64_t bytes;
    char sha256[65];  // "" when APT names another kind of checksum
} PackageUri;

// Parses one line of `apt-get --print-uris download`: 'URL' FILE BYTES KIND:HASH. E_FORMAT:
// anything else.
Status package_uri_parse(PackageUri *uri, const char *text) CHECKED;

// Makes sure that the package lies in `dir` and returns its path: a copy that fits is kept, else it
// is downloaded by fetch.c and, when that fails, by apt-get itself. A PACKAGE_*.deb put there by
// hand serves when there is no APT. E_NETWORK: none of these worked; E_IO: the disk. Not
// collective.
Status package_fetch(char path[PATH_BYTES], const char *package, const char *dir) CHECKED;
