#!/usr/bin/env bash
# Kills runs at random moments, from the preparation of the text to the report, and starts them again until they have ended:
# each must end with the bits of the run that nobody disturbed. On one rank and on two; SIGKILL and the signals that ask for
# a stop, to one rank, all ranks, mpirun or all of them. The seed draws the phase, the delay and the signal; where that hits
# depends on the machine, and is counted. Not part of ./test.sh: 200 deaths take about ten minutes.
# Usage: tests/soak/kills.sh BINARY COUNT [SEED]   works in build/soak; at the first difference ends with 1 and keeps all
set -eu
[ $# -ge 2 ] || { echo "usage: $0 BINARY COUNT [SEED]" >&2; exit 64; }
binary=$(realpath "$1") count=$2 seed=${3:-1} source=$(realpath "$(dirname "$0")/../..")
. "$source/tests/cli/lib.sh"
work=$source/build/soak/seed$seed
rm -rf "$work" && mkdir -p "$work" && cd "$work"
RANDOM=$seed
exec {pause}<> <(:) # sleeping on it needs no process
# What a killed mpirun leaves in shared memory, in a place of ours.
shm=$(mktemp -d /dev/shm/sterna-kills.XXXXXX)
trap 'rm -rf "$shm"' EXIT
export OMPI_MCA_btl_vader_backing_directory=$shm OMPI_MCA_orte_tmpdir_base=$shm

# train RANKS DIR: in the background, its process is $job; DIR-cache is its own, so that each run prepares its text, too.
train() {
  local launch=()
  [ "$1" = 1 ] || launch=(mpirun -n "$1")
  "${launch[@]}" "$binary" train "$source/configs/tiny.yaml" train.run_dir="$2" data.cache="$2-cache" data.offline=true \
    train.steps=150 train.batch_tokens=448 train.ckpt_every=10 train.keep=2 train.eval_every=15 train.eval_tokens=20000 \
    train.sample_every=30 sample.max_new=40 >"$2.life" 2>&1 </dev/null &
  job=$!
}

# after MS: waits; false when the job is over.
after() {
  read -rt "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))" -u "$pause" || true
  kill -0 "$job" 2>/dev/null
}

# A moment to wait for: a sign that a phase has begun. A dead run leaves the same signs.
prepares() { [ -d "$1-cache" ] && [ ! -e "$1-cache/corpus" ]; }
saves() { compgen -G "$1/ckpt/*.tmp" >/dev/null; }
evaluates() { tail -n 1 "$1/metrics.jsonl" 2>/dev/null | grep -qE '"kind":"step","step":(15|30|45|60|75|90|105|120|135|150),'; }
steps() { grep -q 'memory:' "$1.life"; }
exports() { grep -q '"final":true' "$1/metrics.jsonl" 2>/dev/null; }
reports() { [ -e "$1/exit.json" ] && exports "$1"; }

# Where a run was: the latest phase whose sign is there.
phase_of() {
  local phase
  for phase in reports saves exports evaluates steps prepares; do
    if $phase "$1"; then echo "$phase" && return; fi
  done
  echo starts
}

# pick WORD...: one of them, in $picked; a subshell would not move the generator on.
pick() {
  shift $((RANDOM % $#))
  picked=$1
}

# strike: the signal of this life to one rank, all ranks, mpirun or all of them; in $how. No process is started for that:
# a save takes milliseconds.
strike() {
  local signal whom pids=()
  pick KILL KILL KILL KILL TERM USR1 INT HUP
  signal=$picked
  pick rank ranks launcher everybody
  whom=$picked
  [ "$ranks" = 1 ] || read -ra pids <"/proc/$job/task/$job/children" || true
  [ ${#pids[@]} -gt 0 ] || whom=launcher
  case $whom in
    rank) pids=("${pids[RANDOM % ${#pids[@]}]}") ;;
    launcher) pids=("$job") ;;
    everybody) pids+=("$job") ;;
  esac
  how="$signal to $whom"
  kill -"$signal" "${pids[@]}" 2>/dev/null || true
}

differs() {
  echo "FAILED: seed $seed, run $dir on $ranks rank(s), after death $deaths ($how): $*" >&2
  echo "kept: $work/$dir, $dir-cache, $dir.log, and the undisturbed whole$ranks" >&2
  exit 1
}

# One life of $dir: until the moment drawn for it, or the end. Sets $code.
live() {
  local sign ms begin=$SECONDS
  train "$ranks" "$dir"
  pick true true true saves saves saves evaluates evaluates exports reports
  [ -e "$dir-cache/corpus" ] || pick prepares true
  sign=$picked
  case $sign in
    true) ms=$((RANDOM % life_ms[ranks])) ;;
    prepares) ms=$((RANDOM % 300)) ;;
    *) ms=$((RANDOM % 15)) ;;
  esac
  until $sign "$dir" || ! after 2; do [ $((SECONDS - begin)) -lt 120 ] || differs 'no end in sight'; done
  how=nothing
  if after $ms; then strike; fi
  code=0
  wait "$job" 2>/dev/null || code=$?
  cat "$dir.life" >>"$dir.log"
  none_left
}

declare -A hits=() # phase and means -> deaths
life_ms=()
for ranks in 1 2; do
  begin=${EPOCHREALTIME/./}
  train $ranks whole$ranks
  wait "$job" || { cat whole$ranks.life >&2; fail "the undisturbed run on $ranks rank(s)"; }
  life_ms[ranks]=$(((${EPOCHREALTIME/./} - begin) / 1000))
done
echo "undisturbed: ${life_ms[1]} ms on one rank, ${life_ms[2]} ms on two"

deaths=0 run=0
while [ "$deaths" -lt "$count" ]; do
  run=$((run + 1))
  ranks=$((run % 2 + 1)) dir=run$run code=1
  until [ $code = 0 ]; do
    live
    case $code in
      0) ;;
      6[4-9] | 7[0-4] | 76) tail -n 3 "$dir.life" >&2; differs "exit code $code" ;;
      *)
        deaths=$((deaths + 1))
        phase=$(phase_of "$dir")
        hits["$phase"]=$((${hits["$phase"]:-0} + 1))
        hits["by ${how%% *}"]=$((${hits["by ${how%% *}"]:-0} + 1))
        ;;
    esac
  done
  (same_run whole$ranks "$dir") || differs 'other bits than the undisturbed run'
  rm -rf "$dir" "$dir-cache" "$dir".l*
  echo "run $run on $ranks rank(s): the same bits; $deaths deaths so far"
done
echo "seed $seed: $deaths deaths in $run runs, all ended as the undisturbed ones"
for key in "${!hits[@]}"; do echo "  $key ${hits[$key]}"; done | sort
cd / && rm -rf "$work"
