#!/usr/bin/env bash
# Logits, loss and every gradient of `sterna forward` against an independent implementation in numpy, on 1, 2 and 3
# ranks (with fewer rows than ranks, too), in small blocks and with recomputation.
# Usage: oracle.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
if ! "$python" -c 'import numpy' 2>/dev/null; then
  echo "skipped: needs python3-numpy" >&2
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1  # titans.py takes files and comparison from tnl.py
kind=$("$binary" --version | grep -oE 'f32|f64')
rm -rf work && mkdir work && cd work

sizes='1 2 3'
! short || sizes=2
for oracle in "$source"/tests/oracle/{tnl,titans}.py; do
  for name in $("$python" "$oracle" list); do
    mkdir "$name"
    "$python" "$oracle" make "$name" "$name" "$kind"
    for ranks in $sizes; do
      mpirun -n $ranks "$binary" forward "$name" --ids "$name/ids.safetensors" --out "$name/out$ranks.safetensors" \
        --grads >log.txt 2>&1 || { cat log.txt >&2; fail "sterna forward $name on $ranks ranks"; }
      "$python" "$oracle" check "$name" "$name/out$ranks.safetensors" "$kind" || fail "$name on $ranks ranks"
    done
  done
done

if short; then exit 0; fi
oracle=$source/tests/oracle/tnl.py
# How a model is run does not matter.
for setting in model.block=1 model.block=7 model.recompute=true; do
  for name in hybrid lrpe-everywhere; do
    "$binary" forward "$name" --ids "$name/ids.safetensors" --out "$name/set.safetensors" --grads $setting \
      >log.txt 2>&1 || { cat log.txt >&2; fail "sterna forward $name $setting"; }
    "$python" "$oracle" check "$name" "$name/set.safetensors" "$kind" || fail "$name with $setting"
  done
done

# The oracle can tell models that differ little.
for pair in tied:model.scale_embedding=false tied:model.pad_id=-1 hybrid:model.window=8 hybrid:model.rope_base=9000 \
  hybrid:model.norm_eps=1e-3; do
  name=${pair%%:*} setting=${pair#*:}
  "$binary" forward "$name" --ids "$name/ids.safetensors" --out other.safetensors --grads "$setting" >log.txt 2>&1 ||
    { cat log.txt >&2; fail "sterna forward $name $setting"; }
  if "$python" "$oracle" check "$name" other.safetensors "$kind" >log.txt 2>&1; then
    fail "the oracle accepts $name with $setting"
  fi
done
