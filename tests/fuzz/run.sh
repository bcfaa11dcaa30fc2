#!/usr/bin/env bash
# Fuzzes the safetensors reader under the address and undefined-behaviour sanitizers, from a good file on. No part of
# ./test.sh: it ends only when the time is over, or with an input that breaks the reader.
# Usage: tests/fuzz/run.sh [SECONDS]   default 600. Needs clang: apt-get install clang
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang >/dev/null || { echo 'tests/fuzz/run.sh: needs clang: apt-get install clang' >&2; exit 69; }
work=build/fuzz
mkdir -p $work/corpus
clang -fsanitize=fuzzer,address,undefined -g -O1 -std=c11 -D_DEFAULT_SOURCE -I. -o $work/safetensors \
  tests/fuzz/fuzz_safetensors.c checkpoints/safetensors.c checkpoints/dtype.c base/json.c base/text.c base/file.c \
  base/status.c -ljansson -lxxhash -lm
header='{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[1],"data_offsets":[16,24]}}   '
{
  printf "\\x$(printf %02x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
  head -c 24 /dev/zero
} >$work/corpus/good
$work/safetensors -max_total_time="${1:-600}" -max_len=4096 $work/corpus
