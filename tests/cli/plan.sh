#!/usr/bin/env bash
# sterna plan: every class of memory is, to the byte, what a run on that mesh reserves; what does not fit gets advice that fits.
# Usage: plan.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

# ---- the plan is the run -----------------------------------------------------------------------

# A little text, and a vocabulary that does not depend on it: runs are short, and the plan knows it.
mkdir texts
for i in 1 2 3 4 5 6 7 8; do head -c $((3000 * i)) "$source/data/sample/kjv.txt" | tail -c 3000 >texts/$i.txt; done

# planned FILE CLASS: its bytes, as printed.
planned() {
  awk -v name="$2" '$1 == name { print $3 }' "$1"
}

# both RANKS NAME SETTING...: plans and trains two steps, compares all classes.
both() {
  local ranks=$1 name=$2 class
  shift 2
  settle model.vocab=600 "$@"
  "$binary" plan "$source/configs/tiny.yaml" --ranks "$ranks" "${settled[@]}" >"$name.plan" || fail "plan $name"
  mpirun -n "$ranks" "$binary" train "$source/configs/tiny.yaml" train.run_dir="$name" data.cache=cache \
    data.sources=texts train.steps=2 train.ckpt_every=0 sample.max_new=1 "${settled[@]}" >"$name.log" 2>&1 ||
    { cat "$name.log" >&2; fail "train $name"; }
  for class in weights gradients optimizer exchange activations; do
    echo "$class $(planned "$name.plan" $class)"
  done >"$name.planned"
  python3 -c 'import json, sys; [print(*item) for item in json.load(open(sys.argv[1]))["memory"].items()]' \
    "$name/comm.json" >"$name.used"
  diff "$name.planned" "$name.used" >&2 || fail "$name: the run does not reserve what was planned"
}

both 1 one
both 4 sp2.tp2 parallel.sp=2 parallel.tp=2 model.kv_heads=2
if short; then exit 0; fi
both 2 dp2
both 3 dp3 train.micro_rows=2                     # uneven shares of rows and of moments
both 2 dp2.whole parallel.zero=false
both 2 sp2 parallel.sp=2
both 2 sp2.again parallel.sp=2 model.recompute=true
both 3 sp3 parallel.sp=3 parallel.sp_linear=lasp2_scan parallel.sp_softmax=ring  # 64 tokens: 22 + 21 + 21
both 4 dp2.tp2 parallel.tp=2 model.kv_heads=2 model.vocab=601 model.tied=true parallel.zero=false
four='model.preset=tnl-tiny model.layers=4 model.pattern=LNLW model.window=24'
both 4 sp4.window parallel.sp=4 $four             # a window longer than a chunk
both 4 sp2.tp2.window parallel.sp=2 parallel.tp=2 parallel.sp_softmax=ulysses parallel.sp_linear=lasp model.heads=4 $four
both 4 sp2.tp2.memory parallel.sp=2 parallel.tp=2 ${four/LNLW/LGMW} model.persistent=3 model.memory_chunk=7
[ "$(planned dp2.plan optimizer)" -lt "$(planned dp2.whole.plan optimizer)" ] || fail 'ZeRO-1 divides nothing'
[ "$(planned sp2.again.plan activations)" -lt "$(planned sp2.plan activations)" ] || fail 'recomputation keeps all'

# The sums.
awk '$1 ~ /^(weights|gradients|optimizer|exchange|activations)$/ { sum += $3 } $1 == "arenas" { arenas = $3 }
  $1 == "resident" { more = $3 - arenas } END { exit !(sum == arenas && more > 2^20 && more < 2^27) }' sp2.tp2.plan ||
  { cat sp2.tp2.plan >&2; fail 'the classes do not add up'; }

# ---- what does not fit -------------------------------------------------------------------------

# advice MEMORY TEXT WORDS...: the plan of a rank with MEMORY GiB gives this advice, and the advised plan fits: its figure is the one
# promised. Doubles take twice the memory.
case $("$binary" --version | grep -oE 'f32|f64') in f64) reals=2 ;; *) reals=1 ;; esac
advice() {
  local memory=$(($1 * reals)) text=$2 promise words ranks
  shift 2
  set -- --memory=$memory "$@"
  "$binary" plan --threads 1 "$@" >advice.txt || fail "plan $*"
  says "does not fit" advice.txt
  grep -qE "^ +$text does \([0-9.]+ GiB a rank, [0-9]+ ranks?\)$" advice.txt || { cat advice.txt >&2; fail "no advice $text: $*"; }
  promise=$(grep -m1 -E "^ +$text does" advice.txt)
  words=$(echo "$promise" | sed -E 's/ +(or )?(.*) does .*/\2/')
  ranks=$(echo "$promise" | sed -E 's/.*, ([0-9]+) ranks?\)/\1/')
  # shellcheck disable=SC2086
  settle "$@" $words --ranks="$ranks"
  "$binary" plan --threads=1 "${settled[@]}" >again.txt || fail "plan ${settled[*]}"
  says 'fits' again.txt
  grep -q 'does not fit' again.txt && fail "the advice $words does not fit: $*"
  awk -v promise="$(echo "$promise" | sed -E 's/.*\(([0-9.]+) GiB.*/\1/')" \
    '$1 == "resident" { exit !($2 - promise < 0.0051 && promise - $2 < 0.0051) }' again.txt || fail "promised: $promise; it is: $(cat again.txt)"
}

long='train.seq=131072 train.batch_tokens=131072'
# Activations of one long row: sp, or recomputation without more ranks.
advice 24 'parallel.sp=16' --preset=tnl-385m $long
advice 64 'or model.recompute=true' --preset=tnl-385m $long
# Several rows a micro-batch: fewer of them.
advice 8 'train.micro_rows=[12]' --preset=bench-36m train.seq=8192 train.batch_tokens=65536 train.micro_rows=8
# Ranks of dp work on one sequence instead: the same number of ranks.
advice 24 'parallel.sp=[0-9]+' --preset=tnl-385m --ranks=32 train.seq=131072 train.batch_tokens=4194304
says '32 ranks)' advice.txt
# Weights and gradients: tp, in values that divide the heads; moments: divided, when they are not.
advice 24 'parallel.tp=8 train.micro_rows=[0-9]+' --preset=tnl-7b --ranks=8
advice 20 'parallel.tp=[0-9]+.*' --preset=tnl-7b --ranks=1 train.seq=512 train.batch_tokens=512
advice 17 'parallel.zero=true' --preset=tnl-1b --ranks=8 --vocab=64000 parallel.zero=false train.micro_rows=1
# Gathered keys and values do not shrink with more chunks: in a ring they do.
advice 40 'parallel.sp=[0-9]+ parallel.sp_softmax=ring.*' --preset=tnl-hybrid-1b train.seq=1048576 \
  train.batch_tokens=1048576 model.pattern=LNLW
"$binary" plan --preset tnl-7b --memory 0.01 >advice.txt
says 'nothing found that does' advice.txt

# What a rank may have, and who says so.
"$binary" plan --preset tnl-tiny >fits.txt
says "fits" fits.txt
says "this machine's" fits.txt
"$binary" plan --preset tnl-tiny --ranks 4 --memory 1.5 parallel.sp=2 >fits.txt
says 'fits           1.5 GiB a rank (--memory)' fits.txt
says 'dp 2 x sp 2 x tp 1 = 4 ranks' fits.txt

# ---- wrong meshes ------------------------------------------------------------------------------

expect 69 'parallel.sp 2 x parallel.tp 1 = 2 ranks a sequence, but 3 were started' "$binary" plan --preset tnl-1b --ranks 3 parallel.sp=2
expect 69 'parallel.dp 4 x parallel.sp 1 x parallel.tp 1 = 4 ranks' "$binary" plan --preset tnl-1b --ranks 8 parallel.dp=4
expect 64 'parallel.tp=3 must divide model.heads=16' "$binary" plan --preset tnl-1b --ranks 3 parallel.tp=3
says 'parallel.tp may be 1, 2, 4, 8, 16' expect.err
expect 64 'ulysses' "$binary" plan --preset tnl-hybrid-1b --ranks 3 parallel.sp=3 parallel.sp_softmax=ulysses
expect 64 '--memory much is no size' "$binary" plan --preset tnl-1b --memory much
expect 64 '--memory -1 is no size' "$binary" plan --preset tnl-1b --memory=-1
expect 64 '--threads' "$binary" plan --preset tnl-1b --threads 0

# ---- mixers ------------------------------------------------------------------------------------

# States by hand: 4 heads of 16 x 16 reals, and 2 x 2 key/value heads x 16 for 1000 tokens, or the window's.
real=4
case $("$binary" --version) in *f64*) real=8 ;; esac
"$binary" mixers model.width=64 model.heads=4 model.kv_heads=2 model.window=100 --tokens 1000 >mixers.txt
row() { awk -v letter="$1" '$1 == letter' mixers.txt; }
row L | grep -q " $((4 * 16 * 16 * real)) B  " || fail "$(row L)"
row N | grep -q " $((2 * 2 * 16 * 1000 * real / 1024)) KiB " || fail "$(row N)"
row W | grep -qE " ($((2 * 2 * 16 * 100 * real / 1024)) KiB|$((2 * 2 * 16 * 100 * real)) B) " || fail "$(row W)"
"$binary" mixers model.width=64 model.heads=4 --ranks 4 parallel.sp=4 parallel.sp_linear=lasp parallel.sp_softmax=ring >mixers.txt
row L | grep -qE " 3  all tokens" || fail "$(row L)"
row N | grep -qE " 3  all tokens" || fail "$(row N)"
row W | grep -qE " 1  the last" || fail "$(row W)"
"$binary" mixers model.width=27 model.heads=3 >mixers.txt
says 'does not fit: model.width/model.heads=9 is odd' mixers.txt
expect 69 'were started' "$binary" mixers --ranks 3 parallel.sp=2
expect 64 '--tokens' "$binary" mixers --tokens 0
