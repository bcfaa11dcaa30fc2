# Shared by the scripts of this folder: . "$(dirname "$0")/lib.sh"
# As ctest sets it; for runs by hand.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1

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

# says TEXT FILE
says() {
  grep -qF -- "$1" "$2" || { cat "$2" >&2; fail "$2 does not say '$1'"; }
}

# same FILE_A FILE_B
same() {
  cmp "$1" "$2" || fail "$1 and $2 differ"
}
