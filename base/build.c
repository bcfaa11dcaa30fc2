// What identifies a program. The hash of its sources is made by sources.cmake.
#include "base/build.h"

#include <stdint.h>
#include <stdio.h>

#include "base/real.h"

extern const char BUILD_SOURCES[];

const char BUILD_VERSION[] = "sterna " STERNA_VERSION " (" REAL_NAME ")";

#ifdef __SANITIZE_ADDRESS__  // more exchanges than others make: parallel/check.c
static const char CHECKS[] = ", checked collectives";
#else
static const char CHECKS[] = "";
#endif

const char *build_text(void) {
    static char text[128];
    const uint16_t one = 1;
    const char *order = *(const char *)&one == 1 ? "little" : "big";
    snprintf(text, sizeof text, "%s, sources %s, %d bits, %s-endian%s", BUILD_VERSION,
             BUILD_SOURCES, 8 * (int)sizeof(void *), order, CHECKS);
    return text;
}
