#!/usr/bin/env bash
# A run of several learners, tests/train/two_models.c: its losses and gradients are those of a numpy twin on every mesh, its plan is what
# it reserves, and it resumes bit for bit and on other meshes; metrics, report, signals and checkpoints know all of it.
# Usage: two_models.sh BINARY SOURCE_DIR
set -eu
source=$2
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
if ! "$python" -c 'import numpy' 2>/dev/null; then
  echo "skipped: needs python3-numpy" >&2
  exit 77
fi
sterna=$1 binary=$(dirname "$1")/tests/two_models
kind=$("$sterna" --version | grep -oE 'f32|f64')
rm -rf work && mkdir work && cd work

model='model.width=48 model.heads=4 model.kv_heads=2 model.ffn=56 model.layers=4 model.pattern=LNLW model.window=20'
model+=' train.seq=53 train.batch_tokens=265 train.micro_rows=2 train.eval_seq=31 train.eval_tokens=500 sample.max_new=8'
# train RANKS DIR SETTING...
train() {
  local ranks=$1 dir=$2
  shift 2
  settle $model train.eval_every=0 train.ckpt_every=0 data.sources="$source/data/sample" data.cache=cache \
    schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 "$@"
  mpirun -n "$ranks" "$binary" "$source/configs/tiny.yaml" train.run_dir="$dir" "${settled[@]}" >"$dir.log" 2>&1
}
trains() { train "$@" || { cat "$2.log" >&2; fail "$2"; }; }

# ---- gradients and memory ----------------------------------------------------------------------

meshes=('1 one' '3 dp3' '2 sp2 parallel.sp=2' '2 tp2 parallel.tp=2 parallel.zero=false' '3 sp3 parallel.sp=3 parallel.sp_softmax=ring'
  '4 sp2tp2 parallel.sp=2 parallel.tp=2 model.recompute=true' '4 dp2sp2 parallel.sp=2')
! short || meshes=("${meshes[@]:0:1}" "${meshes[@]:3:1}")
still='train.steps=1 schedule.lr=0 optim.beta1=0 train.clip=0'
TWO_MODELS_ROWS=$PWD/rows trains 1 rows.run $still
for mesh in "${meshes[@]}"; do
  read -r ranks name settings <<<"$mesh"
  trains $ranks $name $still $settings
  PYTHONPATH=$source/tests/oracle "$python" "$source/tests/oracle/two_models.py" $name rows "$kind" || fail "$name"
  "$binary" plan $ranks "$source/configs/tiny.yaml" model.vocab=512 $model $settings >$name.planned 2>plan.log || { cat plan.log >&2; fail "plan $name"; }
  "$python" -c 'import json, sys; [print(*item) for item in json.load(open(sys.argv[1]))["memory"].items()]' $name/comm.json >$name.used
  diff $name.planned $name.used >&2 || fail "$name: the run does not reserve what was planned"
done
# The twin can tell: one target less.
sed '1s/[^ ]*$/-100/' rows >fewer
if PYTHONPATH=$source/tests/oracle "$python" "$source/tests/oracle/two_models.py" one fewer "$kind" 2>/dev/null; then fail 'the twin accepts another batch'; fi

# ---- resume ------------------------------------------------------------------------------------

long='train.steps=8 train.ckpt_every=4 train.keep=9 train.eval_every=3'
files='model.safetensors optimizer.safetensors second.model.safetensors second.optimizer.safetensors'
# halves FROM TO: TO holds what FROM had saved after four steps.
halves() {
  mkdir -p "$2/ckpt"
  cp "$1"/config.*.yaml "$1/metrics.jsonl" "$2/"
  cp -r "$1/ckpt/step_00000004" "$2/ckpt/"
}
# The last step's numbers of every learner and of the objective.
last() { grep '"step":8,' "$1/metrics.jsonl" | grep '"kind":"step"' | sed -E 's/,"step_s":.*//'; }

trains 2 whole $long
halves whole again
trains 2 again $long
same_run whole again
for file in $files; do same whole/ckpt/step_00000008/$file again/ckpt/step_00000008/$file; done
ls whole/ckpt/step_00000008 | grep -q reference && fail 'a frozen model is saved'
[ "$(last whole)" = "$(last again)" ] || fail 'counters are not resumed'

for mesh in "${meshes[@]}"; do
  read -r ranks name settings <<<"$mesh"
  short || [[ ' one sp3 sp2tp2 ' == *" $name "* ]] || continue
  halves whole after.$name
  trains $ranks after.$name $long ${settings/model.recompute=true/}
  "$(dirname "$0")/compare_runs.py" whole after.$name 1e-6 5e-6 || fail "resumed on $name"
  "$python" - whole after.$name <<'PY' || fail "resumed on $name: the second model differs"
import json, sys
a, b = ([json.loads(line) for line in open(f"{run}/metrics.jsonl")] for run in sys.argv[1:])
a, b = ([x for x in rows if x["kind"] == "step"] for rows in (a, b))
for x, y in zip(a, b, strict=True):
    for key in "second.lr", "second.gnorm", "gap", "entropy", "gap_weight":
        if abs(x[key] - y[key]) > 5e-5 * abs(x[key]):
            sys.exit(f"step {x['step']}: {key} is {y[key]}, not {x[key]}")
assert a[0]["gap_weight"] > a[-1]["gap_weight"] and a[0]["lr"] == 2 * a[0]["second.lr"]
PY
done

# Stopped by a signal, all of it is saved.
stop() {
  settle $model data.sources="$source/data/sample" data.cache=cache schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 \
    train.steps=100000 train.ckpt_every=0 train.eval_every=0 train.log_every=1
  mpirun -n 2 "$binary" "$source/configs/tiny.yaml" train.run_dir=stopped "${settled[@]}" >stopped.log 2>&1 &
  launcher=$!
  for _ in $(seq 600); do ! grep -q 'step  *3/' stopped.log 2>/dev/null || break; sleep 0.1; done
  kill -TERM $(ranks_of stopped | head -n 1)
  code=0
  wait $launcher || code=$?
  [ $code = 75 ] || { cat stopped.log >&2; fail "a request to stop ends with $code"; }
  for file in $files; do [ -s "$(ls -d stopped/ckpt/step_*)/$file" ] || fail "a stopped run saves no $file"; done
}
short || stop

# ---- told --------------------------------------------------------------------------------------

says 'model second: ' whole.log
says 'model reference: ' whole.log
says ', frozen' whole.log
for curve in second.lr second.gnorm gap entropy gap_weight; do says ">$curve <span>" whole/report.html; done

if short; then exit 0; fi
# Another kind of run is refused, both ways, and stays as it is but for how the last process ended.
trains 1 two $still
cp -r two kept
expect 64 'two holds a run of another kind: two models' "$sterna" train "$source/configs/tiny.yaml" train.run_dir=two "${settled[@]}"
diff -r -x exit.json two kept || fail 'a refused run has changed'
"$sterna" train "$source/configs/tiny.yaml" train.run_dir=plain "${settled[@]}" >plain.log 2>&1 || { cat plain.log >&2; fail plain; }
cp -r plain kept.plain
expect 64 'plain holds a run of another kind: language model' "$binary" "$source/configs/tiny.yaml" train.run_dir=plain "${settled[@]}"
diff -r -x exit.json plain kept.plain || fail 'a refused run has changed'

# Before its first checkpoint, too; and another frozen model is another run.
mkdir begun && cp two/config.requested.yaml begun/
expect 64 'begun holds a run of another kind: two models' mpirun -n 2 "$sterna" train "$source/configs/tiny.yaml" train.run_dir=begun "${settled[@]}"
halves whole thawed
TWO_MODELS_REFERENCE=7 train 2 thawed $long && fail 'another frozen model goes unnoticed'
says "the frozen model 'reference' is not the one this run began with" thawed.log

# A checkpoint without its second model is no checkpoint.
halves whole torn
rm torn/ckpt/step_00000004/second.optimizer.safetensors
code=0
train 2 torn $long || code=$?
[ $code = 65 ] || { cat torn.log >&2; fail "a torn checkpoint ends with $code"; }
says 'second.optimizer.safetensors' torn.log
