#!/usr/bin/env bash
# The mesh is a choice of speed: what is saved on one mesh dp x sp x tp goes on on any other, with or without ZeRO-1, with the same
# tokens and, within rounding, the numbers of one rank that was never stopped. So do evaluation, forward, samples and export.
# Usage: train_layouts.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
if ! "$python" -c 'import numpy' 2>/dev/null; then
  echo "skipped: needs python3-numpy" >&2
  exit 77
fi
rm -rf work && mkdir work && cd work
kind=$("$binary" --version | grep -oE 'f32|f64')
python() { PYTHONPATH=$source/tests/oracle "$python" -c "import numpy as np, tnl; $1"; }
compare() { "$(dirname "$0")/compare_runs.py" "$1" "$2" 1e-6 5e-6; }

# Each mesh: dp sp tp, methods, ZeRO-1. 53 tokens and 5 rows divide by none of them. One saves, the next one goes on.
meshes=(
  '1 1 1 lasp2      lasp2h  true'
  '1 2 1 lasp2_scan ring    true'
  '2 1 1 lasp2      lasp2h  false'
  '1 1 2 lasp2      lasp2h  true'
  '1 3 1 lasp       ulysses false'
  '3 1 2 lasp2      lasp2h  true'
  '1 2 2 lasp2_scan ulysses false'
  '1 1 4 lasp2      lasp2h  false'
  '2 2 1 lasp2      lasp2h  true'
  '2 2 2 lasp       ring    false'
  '1 2 3 lasp2      ulysses true'
  '1 4 1 lasp2_scan lasp2h  false'
)
! short || meshes=("${meshes[@]:0:1}" "${meshes[@]:4:2}" "${meshes[@]:9:2}")
at=4 steps=8
# In doubles memories, too: floats make more of rounding there than these limits allow.
pattern=LNLW
[ "$kind" = f32 ] || pattern='LNMG model.memory_chunk=7 model.persistent=2'

# train DIR dp sp tp LINEAR SOFTMAX ZERO [SETTING...]
train() {
  local dir=$1 dp=$2 sp=$3 tp=$4 linear=$5 softmax=$6 zero=$7
  shift 7
  settle model.width=48 model.heads=12 model.kv_heads=12 model.ffn=48 model.layers=4 model.pattern=$pattern model.window=20 \
    train.seq=53 train.batch_tokens=265 train.micro_rows=2 train.steps=$steps train.ckpt_every=$at train.keep=9 \
    schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 train.eval_every=3 train.eval_seq=31 \
    train.eval_tokens=500 train.sample_every=$at sample.max_new=8 "$@"
  mpirun -n $((dp * sp * tp)) "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache \
    data.sources="$source/data/sample" parallel.dp=$dp parallel.sp=$sp parallel.tp=$tp parallel.sp_linear=$linear \
    parallel.sp_softmax=$softmax parallel.zero=$zero "${settled[@]}" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; fail "$dir"; }
}
# A run that ended after the checkpoint in the middle: stopped FROM DIR.
stopped() {
  mkdir -p "$2/ckpt"
  cp "$1"/config.*.yaml "$1/metrics.jsonl" "$2/"
  cp -r "$1/ckpt/step_0000000$at" "$2/ckpt/"
}
name() { tr -s ' ' '-' <<<"$1"; }

for mesh in "${meshes[@]}"; do train "$(name "$mesh")" $mesh; done
whole=$(name "${meshes[0]}")
for i in "${!meshes[@]}"; do
  from=${meshes[i]} to=${meshes[(i + 1) % ${#meshes[@]}]}
  dir=$(name "$to")-after-$(name "$from")
  [ "$i" = 0 ] || compare "$whole" "$(name "$from")" || fail "$from trains another model"
  same "$whole/samples/step_0000000$steps.txt" "$(name "$from")/samples/step_0000000$steps.txt"
  stopped "$(name "$from")" "$dir"
  train "$dir" $to
  says "resuming after step $at" "$dir.log"
  compare "$whole" "$dir" || fail "$to goes elsewhere from a checkpoint of $from"
  same "$whole/samples/step_0000000$steps.txt" "$dir/samples/step_0000000$steps.txt"
done
# The same mesh goes on with the same bits.
mesh=${meshes[${#meshes[@]} / 2]}
stopped "$(name "$mesh")" again
train again $mesh
same_run "$(name "$mesh")" again

# Gains of a Llama are on every tp rank, once in a checkpoint.
llama=(model.family=llama model.kv_heads=6 model.layers=2 model.pattern=NW)
train llama ${meshes[0]} "${llama[@]}"
train llama.saved 1 2 2 lasp2 ring true "${llama[@]}"
stopped llama.saved llama.after
train llama.after 2 1 2 lasp2 ring false "${llama[@]}"
for dir in llama.saved llama.after; do compare llama $dir || fail "$dir goes elsewhere"; done

# What differs little is told apart: other rows, another rate.
train other ${meshes[1]} train.seed=2
if compare "$whole" other >other.txt 2>&1; then fail 'the comparison accepts other tokens'; fi
says 'data_hash differs' other.txt
stopped "$whole" rate && sed -i 's/lr: 0.001/lr: 0.00101/' rate/config.requested.yaml
train rate ${meshes[1]} schedule.lr=0.00101
if compare "$whole" rate; then fail 'the comparison accepts another rate'; fi

# ---- the exported model: the weights of one rank's; its losses, logits and gradients on any mesh ----
for mesh in "${meshes[@]:1}"; do
  python "
a, b = (tnl.st_read(f'{run}/model/model.safetensors') for run in ('$whole', '$(name "$mesh")'))
assert a.keys() == b.keys()
far = {k: np.linalg.norm(a[k] - b[k]) / np.linalg.norm(a[k]) for k in a}
worst = max(far, key=far.get)
print('$mesh: weights differ most in', worst, far[worst])
assert far[worst] < 1e-5" || fail "$mesh exports another model"
done
model=$whole/model
python "tnl.st_write('ids.safetensors', {'input_ids': np.arange(3 * 53).reshape(3, 53) ** 2 % 500})"
head -c 3000 "$source/data/sample/kjv.txt" >text.txt
forward() { # RANKS NAME SETTING...
  local ranks=$1 out=$2
  shift 2
  mpirun -n "$ranks" "$binary" forward "$model" --ids ids.safetensors --out "$out.safetensors" --grads "$@" >"$out.log" 2>&1 ||
    { cat "$out.log" >&2; fail "sterna forward $*"; }
  mpirun -n "$ranks" "$binary" eval --model "$model" --text text.txt --seq 101 "$@" >"$out.txt" || fail "sterna eval $*"
  "$python" - "$out" <<'CHECK' || fail "eval $*"
import sys
read = lambda name: dict(line.split() for line in open(name + ".txt"))
one, here = read("one"), read(sys.argv[1])
print(sys.argv[1], here)
assert one.keys() == here.keys()
assert all(abs(float(one[k]) - float(here[k])) <= 1e-6 * float(one[k]) + 1e-6 for k in one)
CHECK
  python "
a, b = tnl.st_read('one.safetensors'), tnl.st_read('$out.safetensors')
assert a.keys() == b.keys()
far = {k: np.abs(a[k] - b[k]).max() / np.abs(a[k]).max() for k in a}
worst = max(far, key=far.get)
print('$out: forward differs most in', worst, far[worst])
assert all(far[k] <= ($THETA if k.endswith('theta') else $MOST) for k in a)" || fail "forward $*"
}
if [ "$kind" = f64 ]; then MOST=1e-11 THETA=1e-9; else MOST=1e-5 THETA=1e-4; fi
forward 1 one
forward 2 sp2 parallel.sp=2
forward 2 tp2 parallel.tp=2
forward 4 both parallel.sp=2 parallel.tp=2 parallel.sp_softmax=ring
forward 6 all parallel.dp=1 parallel.sp=2 parallel.tp=3 parallel.sp_softmax=ulysses parallel.sp_linear=lasp
forward 4 dp2 parallel.dp=2 parallel.sp=2 parallel.sp_linear=lasp2_scan
model=llama/model
forward 1 one
forward 4 llama4 parallel.sp=2 parallel.tp=2
