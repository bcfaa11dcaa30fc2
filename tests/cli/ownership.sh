#!/usr/bin/env bash
# Nothing that the program did not make is removed or replaced: it is refused with 64, named, and every file is as it was.
# What it made, also in an earlier version, is replaced; and one process at a time works in a directory.
# Usage: ownership.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

snapshot() { (cd t && find . -printf '%p %y %l\n' | sort && find . -type f -exec md5sum {} + | sort); }
# refused TEXT COMMAND...
refused() {
  local before
  before=$(snapshot)
  expect 64 "$@"
  [ "$(snapshot)" = "$before" ] || { diff <(echo "$before") <(snapshot) >&2; fail "changed something: $*"; }
}
data() { settle data.vocab=300 data.sources=t/texts "$@"; "$binary" data run data.offline=true "${settled[@]}"; }
train() {
  settle data.sources=t/texts data.cache=t/cache data.vocab=300 data.offline=true train.run_dir=t/run train.steps=2 train.eval_every=0 "$@"
  "$binary" train "$source/configs/tiny.yaml" "${settled[@]}"
}
good() { "$@" >good.log 2>&1 || { cat good.log >&2; fail "$*"; }; }
users() { mkdir -p "$1" && echo "the user's" >"$1/notes"; }

mkdir -p t/texts && head -c 30000 "$source/data/sample/austen.txt" >t/texts/a.txt
users t/here/corpus && cp t/texts/a.txt t/here/corpus && ln -s here t/link

# ---- caches ----
refused t/here/corpus data data.sources=t/here/corpus data.cache=t/here
refused t/link/corpus data data.sources="$PWD/t/link/../here/corpus/a.txt" data.cache=t/link/
refused t/here/corpus train data.sources=t/texts data.cache=t/here
refused "lies inside of" train data.cache=t/cache train.run_dir=t/cache/corpus/run
refused 'lies inside of' train data.cache=t/run/model
ln -s ../texts t/here/texts
refused 'lies inside of data.sources' data data.sources=t/texts data.cache=t/here/texts/cache
rm -r t/here/corpus && users t/here/corpus.tmp
refused t/here/corpus.tmp data data.sources=t/texts data.cache=t/here
mv t/here/corpus.tmp t/elsewhere && ln -s ../elsewhere t/here/corpus
refused 'symbolic link' data data.sources=t/texts data.cache=t/here
users t/named/text/austen
refused t/named/text/austen "$binary" data run data.sources=austen data.cache=t/named

# ---- what it made is replaced: under any name, by an earlier version, and nothing that came in since ----
mkdir 't/a b' && ln -s 'a b' t/spaces
good data data.sources=t/texts data.cache='t/a b//'
good data data.sources=t/texts data.cache=t/spaces/ data.vocab=310
says 'training a tokenizer of 310' good.log
rm 't/a b/corpus/.sterna-corpus'
good data data.sources=t/texts data.cache=t/spaces data.vocab=300
echo mine >t/spaces/corpus/a.txt
good data data.sources=t/texts data.cache=t/spaces data.vocab=300 # used again, not replaced
refused "'a.txt'" data data.sources=t/texts data.cache=t/spaces data.vocab=310
refused 'lies inside of' data data.sources=t/spaces/corpus/holdout.txt data.cache='t/a b'

# ---- runs, and the model they start from ----
for name in model report.html; do
  users t/proj/$name
  refused "t/proj/$name" train train.run_dir=t/proj
  rm -r t/proj
done
users t/run && good train
[ -s t/run/notes ] || fail 'a file beside the run is gone'
refused 'train.init' train train.init=t/run/model train.steps=3
ln -s run/model t/base && mkdir t/proj && cp -r t/run/model t/proj/base && cp -r t/run/model t/theirs && rm t/theirs/.sterna-model
refused 'train.init' train train.init=t/base
refused 'train.init' train train.init=t/theirs train.run_dir=t/theirs/runs/one
good train train.init=t/proj/base train.run_dir=t/proj data.cache=t/further
cmp t/proj/base/model.safetensors t/run/model/model.safetensors || fail 'the model that was started from has changed'
find t/run t/run/model -maxdepth 1 -name '.sterna-*' -delete # as an earlier version left it
good train
rm t/run/model/.sterna-model
refused t/run/model train

# ---- outputs ----
export_to() { "$binary" ckpt export --model t/run/model --out "$1"; }
for out in t/run/../run/model/ t/base t/run/model/f16 t/run; do refused --out export_to $out; done
refused t/theirs export_to t/theirs
refused t/cache/corpus/tokenizer.json export_to t/cache/corpus
good export_to t/exported && echo card >t/exported/README.md
good export_to t/exported
[ -s t/exported/README.md ] || fail 'the card of an exported model is gone'
refused --out "$binary" tokenizer train --vocab 300 --out t/link/../texts/a.txt t/texts/a.txt
refused --out "$binary" forward t/run/model --ids t/texts/a.txt --out t/texts/../texts/a.txt
refused --out "$binary" forward t/base --ids t/texts/a.txt --out t/run/model/model-00001-of-00002.safetensors
users t/page && mv t/page/notes t/page/report.html
refused t/page/report.html "$binary" report t/page

# ---- checkpoints ----
touch t/run/model/.sterna-model && cp -r t/run t/more && rm t/more/config.requested.yaml t/more/exit.json
users t/more/ckpt/step_00000001 && users t/more/ckpt/step_00000001.bad
echo mine >t/more/ckpt/step_00000002/mine
for step in 3 4; do cp -r t/run/ckpt/step_00000002 t/more/ckpt/step_0000000$step.bad; done
users t/more/ckpt/step_00000009.tmp
refused t/more/ckpt/step_00000009.tmp train train.run_dir=t/more train.steps=4 train.keep=1
rm -r t/more/ckpt/step_00000009.tmp
good train train.run_dir=t/more train.steps=4 train.keep=1
says "'mine' in it was not made by this program" good.log
for kept in 1/notes 1.bad/notes 2/mine 4.bad/manifest.msgpack 4/manifest.msgpack; do
  [ -s t/more/ckpt/step_0000000$kept ] || fail "ckpt/step_0000000$kept is gone"
done
[ ! -e t/more/ckpt/step_00000003.bad ] || fail 'the older of two damaged checkpoints is kept'

# ---- locks: a second run is refused also where cache and run are one directory; waiting can be ended ----
train data.cache=t/one train.run_dir=t/one train.steps=100000 train.log_every=1000 >one.log 2>&1 & job=$!
until grep -qs '"step":5,' t/one/metrics.jsonl; do kill -0 $job || fail 'the run ended early'; sleep 0.05; done
expect 64 'another process trains in this directory' train data.cache=t/one train.run_dir=t/one train.steps=100000
says 'process ' expect.err
kill -USR1 "$(ranks_of t/one)"
code=0 && wait $job || code=$?
[ $code = 75 ] || { cat one.log >&2; fail "the run ended with $code"; }
mkfifo go
python3 - t/cache/.sterna-cache.lock go <<'PYTHON' & holder=$!
import fcntl, struct, sys
f = open(sys.argv[1], "r+")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
f.truncate(0); f.write("elsewhere 7\n"); f.flush()
open(sys.argv[2]).read()
PYTHON
exec 9>go
mpirun -n 2 "$binary" data run data.sources=t/texts data.cache=t/cache data.offline=true >wait.log 2>&1 9>&- & job=$!
until grep -qs 'waiting for process 7 on elsewhere' wait.log; do kill -0 $job || { cat wait.log >&2; fail 'nobody waits'; }; sleep 0.05; done
kill -TERM "$(here | sed -n 2p)"
code=0 && wait $job || code=$?
[ $code = 75 ] || { cat wait.log >&2; fail "waiting ended with $code"; }
says 'stopped by SIGTERM while waiting' wait.log
none_left
exec 9>&- && wait $holder
