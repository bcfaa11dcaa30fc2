#!/usr/bin/env bash
# All C is laid out by .clang-format (100 columns), as version 14 of Debian 12 does it. Usage: format.sh SOURCE_DIR. Prints what
# differs; `clang-format -i FILE` mends it.
set -u
cd "${1:-.}" || exit 1
find base tensor tokenizer parallel model data checkpoints train bench tests -name '*.[ch]' -print0 |
  xargs -0 clang-format --dry-run --Werror
