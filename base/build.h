// Which program this is, for people and for the other ranks of a job.
#pragma once

extern const char BUILD_VERSION[];  // "sterna 0.1.0 (f32)"
// Version, type of a real, a hash of the sources, sizes and byte order: equal texts mean programs
// that understand each other's bytes and make the same collective calls. Processors and compilers
// may differ.
const char *build_text(void);
