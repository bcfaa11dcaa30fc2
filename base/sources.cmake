# A name for the sources of a program: cmake -D OUT=sources.c -D "FILES=a.c;b.h" -P sources.cmake
set(all "")
foreach(file ${FILES})
  file(MD5 ${file} hash)
  string(APPEND all ${hash})
endforeach()
string(MD5 hash "${all}")
string(SUBSTRING ${hash} 0 12 hash)
file(WRITE ${OUT} "extern const char BUILD_SOURCES[];\nconst char BUILD_SOURCES[] = \"${hash}\";\n")
