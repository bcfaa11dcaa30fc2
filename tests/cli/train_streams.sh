#!/usr/bin/env bash
# What reads the log ends, there is no log, or the terminal goes away: training goes on without its lines, or saves and
# leaves, and says how it ended.
# Usage: train_streams.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

# train DIR SETTING...: sets the command $train
train() {
  settle train.run_dir="$1" data.cache=cache data.sources="$source/data/sample" data.offline=true train.steps=30 \
    train.ckpt_every=0 train.eval_every=0 train.log_every=1 "${@:2}"
  train=("$binary" train "$source/configs/tiny.yaml" "${settled[@]}")
}
# ended DIR CODE WANTED REASON
ended() {
  [ "$2" = "$3" ] || fail "$1: exit code $2, not $3"
  says "\"reason\": \"$4\"" "$1/exit.json"
  none_left
}
whole() { # DIR CODE
  ended "$1" "$2" 0 finished
  [ -s "$1/report.html" ] || fail "$1: no report"
  [ "$1" = first ] || same_run first "$1"
}
await() { # DIR, of the process $job
  until grep -qs '"step":3,' "$1/metrics.jsonl"; do kill -0 $job || fail "$1 ended early"; sleep 0.02; done
}

# ---- the log has no reader, no file, no room; both streams; no stream at all ----
train first && "${train[@]}" >log.txt 2>&1 || fail 'the run'
whole first 0
train pipe && { code=0; "${train[@]}" 2>err.txt || code=$?; echo $code >code; } | head -n 1 >head.txt
whole pipe "$(cat code)"
says 'lines of the log are lost, the work goes on' err.txt
[ "$(wc -l <err.txt)" = 1 ] || { cat err.txt >&2; fail 'it says so more than once'; }
train both && { code=0; "${train[@]}" 2>&1 || code=$?; echo $code >code; } | head -n 1 >head.txt
whole both "$(cat code)"
train full && code=0 && "${train[@]}" >/dev/full 2>err.txt || code=$?
whole full $code
says 'No space left on device; lines of the log are lost' err.txt
train closed && code=0 && "${train[@]}" <&- >&- 2>&- || code=$?
whole closed $code # an open file would have the number of a stream, and lines in it

# ---- results are another thing ----
generate=("$binary" generate --model first/model --prompt It --greedy --max-new)
{ code=0; "${generate[@]}" 100000 2>err.txt || code=$?; echo $code >code; } | head -c 10 >head.txt
[ "$(cat code)" = 74 ] || fail "generate | head ends with $(cat code)"
[ ! -s err.txt ] || { cat err.txt >&2; fail 'generate | head is not quiet'; }
for to in '>/dev/full' '>&-'; do
  code=0
  eval '"${generate[@]}" 5 2>err.txt '"$to" || code=$?
  [ $code = 74 ] || fail "generate $to ends with $code"
  says 'sterna: standard output: ' err.txt
done

# ---- a terminal that closes, twice as shells do; the processor time of a queue; nohup ----
train hup train.steps=1000000
"${train[@]}" >log.txt 2>&1 & job=$!
await hup
kill -HUP "$(ranks_of hup)" && kill -HUP "$(ranks_of hup)" 2>/dev/null || true
code=0; wait $job || code=$?
ended hup $code 75 'stopped by SIGHUP'
[ -d hup/ckpt/step_* ] || fail 'no checkpoint after SIGHUP'
train ranks train.steps=1000000
mpirun -n 2 "${train[@]}" >log.txt 2>&1 & job=$!
await ranks
kill -XCPU "$(ranks_of ranks | head -n 1)"
code=0; wait $job || code=$?
ended ranks $code 75 'stopped by SIGXCPU'
train nohup train.steps=300
(trap '' HUP; exec "${train[@]}") >log.txt 2>&1 & job=$!
await nohup
kill -HUP "$(ranks_of nohup)"
code=0; wait $job || code=$?
ended nohup $code 0 finished

# ---- before there are steps: a long text is left between documents ----
mkdir texts && for i in $(seq 80); do sed "s/ the / $i /" "$source/data/sample/kjv.txt" >texts/$i.txt; done
train text data.sources=texts data.cache=texts-cache
"${train[@]}" >log.txt 2>&1 & job=$!
until [ -e text/.sterna-run.lock ]; do kill -0 $job || fail 'text ended early'; sleep 0.02; done
kill -TERM "$(ranks_of text)"
code=0; wait $job || code=$?
ended text $code 75 'stopped by SIGTERM while the text is prepared'
