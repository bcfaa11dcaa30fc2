# Shared by the scripts of this folder: . "$(dirname "$0")/lib.sh"
# As ctest sets it; for runs by hand.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1

# In builds that run a script for its code and not for its figures (tests/CMakeLists.txt), a part of each matrix is enough.
short() { [ -n "${STERNA_SHORT:-}" ]; }

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect CODE TEXT COMMAND...: the command ends with this code and says this on stderr.
expect() {
  local code=0 wanted=$1 text=$2
  shift 2
  "$@" >expect.out 2>expect.err </dev/null || code=$?
  if [ "$code" != "$wanted" ]; then
    cat expect.err >&2
    fail "exit code $code, not $wanted: $*"
  fi
  grep -qF -- "$text" expect.err || { cat expect.err >&2; fail "stderr does not say '$text': $*"; }
}

# settle KEY=VALUE...: the last value of each key, in $settled; the program refuses keys that are set twice.
settle() {
  local word
  declare -A last=()
  for word in "$@"; do last[${word%%=*}]=$word; done
  settled=("${last[@]}")
}

# says TEXT FILE
says() {
  grep -qF -- "$1" "$2" || { cat "$2" >&2; fail "$2 does not say '$1'"; }
}

# same FILE_A FILE_B
same() {
  cmp "$1" "$2" || fail "$1 and $2 differ"
}

# Ranks of this test that train in a run directory; none_left: soon there is no process of this test at all.
ranks_of() {
  here | while read -r pid; do
    ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF " train.run_dir=$1 " || echo "$pid"
  done
}
here() {
  local pid
  for pid in $(pgrep -f "^$binary "); do
    [ "$(readlink "/proc/$pid/cwd")" != "$PWD" ] || echo "$pid"
  done
}
none_left() {
  local _
  for _ in $(seq 50); do
    [ -n "$(here)" ] || return 0
    sleep 0.1
  done
  fail 'processes are left'
}

# same_run DIR OTHER: the same metrics but for times, the same last checkpoint and model.
same_run() {
  local run newest file
  for run in "$1" "$2"; do sed -E 's/,"step_s":.*//' "$run/metrics.jsonl" >"$run/untimed"; done
  same "$1/untimed" "$2/untimed"
  newest=$(ls "$1/ckpt" | tail -n 1)
  [ "$(ls "$2/ckpt" | tail -n 1)" = "$newest" ] || fail "$2/ckpt holds $(ls "$2/ckpt"), not $newest"
  for file in "ckpt/$newest"/{model,optimizer}.safetensors model/{model.safetensors,config.json,tokenizer.json}; do
    same "$1/$file" "$2/$file"
  done
}
