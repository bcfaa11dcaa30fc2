#!/usr/bin/env bash
# Everything that a user can get wrong: one message from one rank, with a hint, the documented exit code, within 10 s, no
# process left, nothing of the user's damaged. Each message stands in docs/errors.md.
# Usage: failures.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
errors=$source/docs/errors.md

# fails CODE TEXT COMMAND...
fails() {
  local begin=$SECONDS messages
  expect "$@"
  [ $((SECONDS - begin)) -le 10 ] || fail "took $((SECONDS - begin)) s: $*"
  messages=$(grep '^sterna: ' expect.err | grep -vcE '^sterna: (\[rank [0-9]+\] )?warning: ') || true
  [ "$messages" = 1 ] || { cat expect.err >&2; fail "$messages messages, not one: $*"; }
  grep -q '^  hint: .' expect.err || { cat expect.err >&2; fail "no hint: $*"; }
  grep -qF -- "$2" "$errors" || fail "docs/errors.md does not list: $2"
  none_left
}
settings=(train.run_dir=run data.cache=cache data.sources="$source/data/sample" train.steps=6 train.ckpt_every=2 train.eval_every=3
  train.eval_tokens=500 train.log_every=1)
train() { # RANKS SETTING...: a small run in run/ with its corpus in cache/
  local ranks=$1
  ! short || ranks=1
  shift
  settle "${settings[@]}" "$@"
  mpirun -n "$ranks" "$binary" train "$source/configs/tiny.yaml" "${settled[@]}"
}
good() { train "$@" >good.log 2>&1 || { cat good.log >&2; fail "train $*"; }; }

# ---- command line and configuration: nothing is written ----
refuse_words() {
  printf 'train: [1,\n' >bad.yaml
  fails 64 'bad.yaml:2:1' mpirun -n 2 "$binary" train bad.yaml
  printf 'train:\n  stesp: 3\n' >bad.yaml
  fails 64 'unknown key' mpirun -n 2 "$binary" train bad.yaml
  says 'train.steps' expect.err
  fails 64 'is not an integer' train 2 train.steps=many
  fails 64 'is out of range' train 2 optim.beta1=2
  fails 64 'is not a multiple of train.seq' train 2 train.batch_tokens=1000
  fails 64 'train.steps and train.minutes are both 0' train 1 train.steps=0
  fails 64 'is not a multiple of model.heads' train 2 model.heads=5
  fails 64 'no configuration file given' mpirun -n 2 "$binary" train train.steps=3
  fails 74 'No such file or directory' mpirun -n 3 "$binary" train none.yaml
  says 'none.yaml' expect.err
  fails 69 'ranks, but' train 3 parallel.dp=2
  says 'parallel.dp 2 x parallel.sp 1 x parallel.tp 1 = 2 ranks, but 3 were started' expect.err
  fails 69 'ranks, but' train 4 parallel.dp=2 parallel.sp=3
  says 'parallel.dp 2 x parallel.sp 3 x parallel.tp 1 = 6 ranks, but 4 were started' expect.err
  fails 69 'no multiple of it' train 3 parallel.sp=2
  says 'parallel.sp 2 x parallel.tp 1 = 2 ranks a sequence, but 3 were started' expect.err
  fails 69 'no multiple of it' train 6 parallel.sp=2 parallel.tp=2
  says 'parallel.sp 2 x parallel.tp 2 = 4 ranks a sequence, but 6 were started' expect.err
  fails 69 'no multiple of it' train 1 parallel.tp=2
  says 'but 1 was started' expect.err
  fails 64 'must divide model.heads' train 3 parallel.tp=3
  says 'parallel.tp=3 must divide model.heads=2, model.kv_heads=1 and model.ffn=48' expect.err
  says 'hint: parallel.tp may be 1' expect.err
  local heads=(model.heads=4 model.kv_heads=4)
  fails 64 'must divide model.heads' train 3 "${heads[@]}" parallel.tp=3
  says 'hint: parallel.tp may be 1, 2, 4' expect.err
  fails 64 'must divide model.heads' train 4 "${heads[@]}" parallel.tp=4 model.ffn=50
  says 'hint: parallel.tp may be 1, 2' expect.err
  fails 64 'parallel.sp_softmax=ulysses' train 3 "${heads[@]}" parallel.sp=3 parallel.sp_softmax=ulysses
  says 'hint: parallel.sp may be 1, 2, 4, or use parallel.sp_softmax=lasp2h' expect.err
  fails 64 'parallel.sp_softmax=ulysses' train 8 "${heads[@]}" parallel.sp=4 parallel.tp=2 parallel.sp_softmax=ulysses
  says 'parallel.sp=4 must divide the 2 heads and 2 key/value heads of each of 2 parallel.tp ranks' expect.err
  says 'hint: parallel.sp may be 1, 2, or use parallel.sp_softmax=lasp2h' expect.err
  fails 64 'is not among' train 2 parallel.sp=2 parallel.sp_linear=lasp3
  [ ! -e run ] || fail 'a refused configuration made a run directory'
}
short || refuse_words

# ---- input text ----
fails 64 'unknown source' train 2 data.sources=austin
says 'known are: austen' expect.err
mkdir texts && printf '{"text": "one"}\n{"text": 2}\n' >texts/a.jsonl
fails 65 'texts/a.jsonl' train 2 data.sources=texts data.cache=other
rm texts/a.jsonl && head -c 100000 /dev/zero | gzip | head -c 60 >texts/a.txt.gz
fails 65 'texts/a.txt.gz' train 2 data.sources=texts data.cache=other
rm texts/* && : >texts/empty.txt
fails 64 'no documents to train on' train 2 data.sources=texts data.cache=other
echo '{"model": {}}' >torn.json
fails 65 'torn.json' train 2 data.tokenizer=torn.json data.cache=other
fails 64 'is smaller than the tokenizer' train 2 model.vocab=300

fails 64 'lies inside of data.sources' train 2 data.sources=texts data.cache=texts/cache
fails 64 'lies inside of data.sources' train 2 data.sources=texts train.run_dir=texts/runs/one
fails 64 'is outside of the vocabulary' train 2 model.eos_id=9000

# ---- corpus: damage is found by checksums and repaired from the sources, or said ----
good 2
cp -r cache intact
damage() { rm -rf run cache; cp -r intact cache; }
shard() { ls cache/corpus/000-*.tns; }
repair() {
  damage && rm "$(shard)"
  good 2
  says 'is prepared again' good.log
  diff -r intact/corpus cache/corpus >&2 || fail 'the corpus made again is another'
  damage && truncate -s -100 "$(shard)"
  fails 65 '000-00000.tns' "$binary" data verify cache/corpus
  good 2
  diff -r intact/corpus cache/corpus >&2 || fail 'the corpus made again is another'
  damage && printf x | dd of="$(shard)" bs=1 seek=1000 conv=notrunc status=none
  fails 65 '000-00000.tns' "$binary" data verify cache/corpus
  good 2
  diff -r intact/corpus cache/corpus >&2 || fail 'the corpus made again is another'
}
short || repair

# ---- checkpoints ----
byte() { printf '\xff\xff\xff\xff' | dd of="$1" bs=1 seek=20000 conv=notrunc status=none; }
cp -r run finished
restore() { rm -rf run; cp -r finished run; }
byte run/ckpt/step_00000006/model.safetensors
fails 65 'the checksum of tensor' "$binary" ckpt verify run/ckpt/step_00000006
good 2
says 'a damaged checkpoint is passed over' good.log
says 'resuming after step 4' good.log
[ -d run/ckpt/step_00000006.bad ] || fail 'a damaged checkpoint is not set aside'
same run/model/model.safetensors finished/model/model.safetensors
for step in run/ckpt/step_*; do byte $step/optimizer.safetensors; done; rm -rf run/ckpt/*.bad
cp run/metrics.jsonl before
fails 65 'checkpoints are damaged' train 2
same before run/metrics.jsonl
restore && rm run/ckpt/step_00000006/manifest.msgpack
good 2
says 'resuming after step 4' good.log
restore
fails 64 'holds a run with another configuration' train 2 schedule.lr=0.5
says '"reason": "finished"' run/exit.json
train 2 train.run_dir=long train.steps=100000 train.eval_every=0 train.log_every=1000 >long.log 2>&1 & job=$!
until grep -qs '"step":5,' long/metrics.jsonl; do kill -0 $job || fail 'the long run ended early'; sleep 0.05; done
[ ! -e long/exit.json ] || fail 'a run at work has an exit.json'
expect 64 'another process trains in this directory' train 2 train.run_dir=long train.steps=100000 train.eval_every=0
kill -USR1 "$(ranks_of long | head -n 1)"
code=0
wait $job || code=$?
[ $code = 75 ] || { cat long.log >&2; fail "the long run ended with $code"; }
cp -r texts other-text && cp "$source/README.md" other-text/
fails 64 'holds a run with another configuration' train 2 data.sources=other-text
# The same settings, but the files have changed.
cp -r "$source/data/sample" sample && rm -rf run cache && good 2 data.sources=sample
echo 'A line that was not there before.' >>sample/kjv.txt
fails 64 'the corpus is not the one this run was trained on' train 2 data.sources=sample train.keep=3
cp "$source/data/sample/kjv.txt" sample/kjv.txt
good 2 data.sources=sample train.keep=3
fails 74 'no such directory' "$binary" generate --model nowhere --prompt x
restore && truncate -s 1000 run/model/model.safetensors
fails 65 'model.safetensors' "$binary" generate --model run/model --prompt x
fails 65 'model.safetensors' train 2 train.init=run/model train.run_dir=init data.tokenizer=cache/corpus/tokenizer.json

# ---- places that cannot be written (disks.sh: full and read-only ones) ----
restore && rm -rf cache && cp -r intact cache
touch file
fails 74 'Not a directory' train 2 train.run_dir=file/run
fails 74 'Not a directory' train 2 data.cache=file/cache

# ---- numerics: the run stops, its last checkpoint stays ----
fails 76 'gradient norm' train 2 train.run_dir=diverged schedule.lr=100 model.init_std=10 schedule.warmup=0 train.steps=500
says '"code": 76' diverged/exit.json
