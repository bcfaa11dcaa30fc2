#!/usr/bin/env bash
# What cannot be read is not damaged, what is gone was once there, and a log is no reason to stop: files that fail in every
# way at resume, in preparation and in what a run tells of itself. Nothing is renamed, made again or begun anew.
# Usage: errors.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
shim=$(dirname "$binary")/tests/libfault.so
head -c 60000 "$source/data/sample/austen.txt" >text.txt

fault= # what fails; empty: nothing
sterna() { env ${fault:+LD_PRELOAD="$shim" FAULT="$fault"} "$binary" "$@"; }
train() { # DIR SETTING...
  local dir=$1
  shift
  settle data.sources=text.txt data.cache=cache data.vocab=400 train.steps=6 train.ckpt_every=2 train.keep=2 train.eval_every=0 \
    train.log_every=1 sample.max_new=5 "$@"
  sterna train "$source/configs/tiny.yaml" train.run_dir="$dir" "${settled[@]}"
}
good() { train "$@" >good.log 2>&1 || { cat good.log >&2; fail "train $*"; }; }
# All files of a run by number, name and size, but for exit.json, which tells of the refusal.
state() { (cd "$1" && find . ! -name exit.json -printf '%i %p %s\n' | sort -k 2; cat metrics.jsonl); }

good whole
cp -r whole run
state run >before
for step in 4 6; do [ -d run/ckpt/step_0000000$step ] || fail "no checkpoint of step $step"; done

# ---- at resume: one error that may pass, or be mended ----
refused() { # CODE TEXT FAULT
  fault=$3
  expect "$1" "$2" train run
  says 'fails here: ' expect.err
  fault=
  state run | diff before - >&2 || fail "a run that was refused is another now: $3"
}
refused 74 'Input/output error' open:/ckpt/step_00000006/model:EIO
refused 74 'Stale file handle' open:/ckpt/step_00000006/manifest:ESTALE
refused 74 'Permission denied' stat:/ckpt/step_00000006/optimizer:EACCES
refused 71 'memory' open:/ckpt/step_00000006/manifest:ENOMEM
refused 74 'Too many open files' open:run/ckpt:EMFILE
refused 74 'Input/output error' open:run/metrics.jsonl:EIO
refused 74 'Read-only file system' open:/ckpt/.sterna:EROFS

# ---- the corpus: read again when the disk is back, not made again ----
(cd cache && ls -iR corpus) >corpus.before
refused 74 'Input/output error' open:cache/corpus/000-:EIO
refused 74 'Permission denied' stat:cache/corpus/index:EACCES
(cd cache && ls -iR corpus) | diff corpus.before - >&2 || fail 'the corpus was made again'

# ---- checkpoints that are gone ----
gone() {
  expect 74 "$1" train run
  says 'hint: ' expect.err
  cmp run/metrics.jsonl whole/metrics.jsonl || fail 'the history is cut'
}
mv run/ckpt away
gone 'no checkpoint is there, but this run has saved one of step 6'
[ ! -e run/ckpt ] || fail 'a missing directory was made'
mkdir run/ckpt && gone 'no checkpoint is there' && rmdir run/ckpt
ln -s /nonexistent/disk run/ckpt && gone 'is a link to a place that is not there' && rm run/ckpt
echo x >run/ckpt && gone 'Not a directory' && rm run/ckpt
ln -s ../away run/ckpt # on another disk
good run
same_run whole run

# A run that has saved nothing yet starts over by itself; one whose ckpt/ cannot be written does not start.
fault=fsync:new/ckpt:EIO
expect 74 'Input/output error' train new
fault=open:none/ckpt:EROFS
expect 74 'Read-only file system' train none
[ ! -e none/metrics.jsonl ] || fail 'a run that cannot save has trained'
fault=
good new
same_run whole new

# ---- what a run tells of itself: a warning, and everything else is there ----
fault='write:told/metrics:ENOSPC open:told/exit:EROFS open:told/report:EDQUOT mkdir:told/samples:EACCES open:told/checkpoint.json:EIO'
good told
for text in 'metrics.jsonl: No space' 'lines could not be written and are lost' exit.json report.html samples checkpoint.json; do
  says "$text" good.log
done
[ "$(grep -c 'the lines of metrics.jsonl wait' good.log)" = 1 ] || fail 'each lost line is told'
same whole/model/model.safetensors told/model/model.safetensors
fault='open:export/model/model.s:ENOSPC'
expect 74 'the model is not exported' train export
says 'the same command repeats the export' expect.err
fault=
good export
same_run whole export

# ---- packages: a disk that fails is no reason to take another text ----
mkdir -p bin kjv/packages pack && printf '#!/bin/sh\nexit 100\n' >bin/apt-get && chmod +x bin/apt-get
tar -C "$source/tests/golden/data/kjv" -cf pack/data.tar . && echo 2.0 >pack/debian-binary
ar qS kjv/packages/bible-kjv-text_1_all.deb pack/debian-binary pack/data.tar 2>/dev/null
PATH=$PWD/bin:$PATH
prepare() { sterna data run data.sources=kjv data.cache="$1" data.vocab=300; }
disk() { # TEXT FAULT
  fault=$2
  expect 74 "$1" prepare kjv
  fault=
  [ ! -e kjv/corpus ] || fail "another text took the place: $2"
}
disk 'No space left on device' open:kjv/text/kjv.new:ENOSPC
disk 'Disk quota exceeded' mkdir:kjv/text:EDQUOT
disk 'Input/output error' open:bible-kjv-text_1_all.deb:EIO
prepare kjv >good.log 2>&1 || { cat good.log >&2; fail 'a package that lies in the cache'; }
! grep -q 'built into the program' good.log || fail 'the sample instead of the package'
prepare none >good.log 2>&1 || { cat good.log >&2; fail 'without network'; }
says 'going on with the small text built into the program' good.log
prepare none >good.log 2>&1 || fail 'the sample again'
says 'remove none/corpus to try again' good.log
