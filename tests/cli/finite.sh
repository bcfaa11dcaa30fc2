#!/usr/bin/env bash
# Numbers that are not finite never leave as a result: exit code 76, one message that names them, nothing written; and
# names from files cannot steer the terminal.
# Usage: finite.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
train() { # SETTING...: a small run on one text
  settle data.sources="$source/data/sample/austen.txt" data.cache=cache train.steps=2 train.ckpt_every=1 train.eval_every=0 \
    model.tied=false model.kv_heads=2 "$@"
  "$binary" train "$source/configs/tiny.yaml" "${settled[@]}"
}
train train.run_dir=base >log.txt
head -c 3000 "$source/data/sample/austen.txt" >text.txt

# edit DIR TENSOR ELEMENT VALUE [COUNT]: base's model with so many other values; ids.st: ids for a forward pass.
edit() {
  cp -r base/model "$1"
  /usr/bin/python3 - "$@" <<'PYTHON'
import json, struct, sys
name, tensor, element, value, count = (sys.argv[1:] + ["1"])[:5]
file = name + "/model.safetensors"
data = bytearray(open(file, "rb").read())
length, = struct.unpack("<Q", data[:8])
at = 8 + length + json.loads(data[8:8 + length])[tensor]["data_offsets"][0] + 4 * int(element)
data[at:at + 4 * int(count)] = struct.pack("<f", float(value)) * int(count)
open(file, "wb").write(data)
header = json.dumps({"input_ids": {"dtype": "I64", "shape": [2, 9], "data_offsets": [0, 144]}}).encode()
open("ids.st", "wb").write(struct.pack("<Q", len(header)) + header + struct.pack("<18q", *range(20, 38)))
PYTHON
}
embedding=model.embed_tokens.weight mlp=model.layers.1.channel_mixer.l1.weight
edit nan $mlp 33 nan     # row 1, column 1
edit inf $embedding 5 -inf
edit huge lm_head.weight 640 3e38 32  # row 20, finite: its product with a normalised row is not

# refuses TEXT COMMAND...: code 76, no result on stdout.
refuses() {
  expect 76 "$@"
  [ ! -s expect.out ] || { cat expect.out >&2; fail "printed a result: $*"; }
  [ ! -e out ] || fail "wrote a result: $*"
}
place="tensor '$mlp', element [1, 1] is not finite (nan)"
for model in nan inf huge; do
  case $model in
  nan) eval=$place forward=$place generate=$place ;;
  inf) eval="tensor '$embedding', element [0, 5] is not finite (-inf)" forward=$eval generate=$eval ;;
  huge) eval='text.txt: the loss of the window that begins at token 0' forward="out: tensor 'logits', element [0, 0, 20]"
    generate='prompt 1, new token 1: a logit is not a number' ;;
  esac
  refuses "$eval" "$binary" eval --model $model --text text.txt
  refuses "$forward" "$binary" forward $model --ids ids.st --out out
  refuses "$generate" "$binary" generate --model $model --prompt 'It was' --max-new 3
done
refuses "$place" mpirun -n 2 "$binary" eval --model nan --text text.txt
refuses 'text.txt: the loss of the window that begins at token 0' mpirun -n 2 "$binary" eval --model huge --text text.txt
refuses 'a logit is not a number' mpirun -n 2 "$binary" generate --model huge --prompt-ids 20,21 --print-ids parallel.tp=2
refuses "$place" "$binary" ckpt export --model nan --out out
refuses "element [20, 0]: 3.00000001e+38 is out of the range of F16" "$binary" ckpt export --model huge --out out --dtype F16
"$binary" ckpt export --model huge --out half --dtype BF16 >log.txt
cp -r half before
refuses 'out of the range of F16' "$binary" ckpt export --model huge --out half --dtype F16 --shard-mb 1
diff -r half before || fail 'an export that failed changed the directory'
expect 76 "$place" train train.init=nan train.run_dir=started
[ ! -e started/model ] || fail 'a run on weights that are no numbers left a model'

# A run that diverges: loss and gradient are finite still when the second update overflows. The first checkpoint stays the
# newest, is whole, and the same command comes to the same end.
edit near $embedding 100 1e34  # row 3 is no token of the text: only weight decay moves it
for launch in '' 'mpirun -n 2'; do
  diverge() {
    $launch "$binary" train "$source/configs/tiny.yaml" data.sources="$source/data/sample/austen.txt" data.cache=cache \
      train.steps=3 train.ckpt_every=1 train.eval_every=0 train.sample_every=1 train.run_dir="diverged${#launch}" \
      train.init=near schedule.lr=100 optim.weight_decay=10
  }
  for _ in 1 2; do
    expect 76 "checkpoint of step 2 is not saved, older ones are untouched" diverge
    says "tensor '$embedding', element [3, 4] is not finite (inf)" expect.err
    [ "$(ls "diverged${#launch}/ckpt")" = step_00000001 ] || fail "$(ls "diverged${#launch}/ckpt")"
    "$binary" ckpt verify "diverged${#launch}/ckpt/step_00000001" >log.txt
    [ "$(ls "diverged${#launch}/samples")" = step_00000001.txt ] || fail 'a sample of weights that are no numbers'
    [ ! -e "diverged${#launch}/model" ] || fail 'a model of weights that are no numbers'
    says '"code": 76' "diverged${#launch}/exit.json"
  done
done

# Names: no byte of a control character comes out, whatever file it is the name of.
evil=$'step_00000009\e]0;gone\a\xc2\x9b2J'
mkdir -p "list/ckpt/$evil" && cp base/model/model.safetensors "list/$evil.safetensors"
quiet() {
  "$@" >quiet.txt 2>&1 </dev/null || true
  ! LC_ALL=C grep -q $'[\e\a\x9b]' quiet.txt || { cat -v quiet.txt >&2; fail "control characters: $*"; }
  says 'step_00000009?' quiet.txt
}
quiet "$binary" ckpt ls list
quiet "$binary" ckpt ls "list/ckpt/$evil"
quiet "$binary" ckpt verify "list/$evil"
quiet "$binary" ckpt diff list base/model
quiet "$binary" eval --model base/model --text "$evil"
quiet "$binary" generate --model "$evil" --prompt x
quiet "$binary" report "$evil"
quiet "$binary" data verify "$evil"
quiet "$binary" ckpt export --model base/model --out "$evil"
quiet "$binary" "$evil"
# Text is a result byte by byte, but not on a terminal.
printf 'a\e[2Jb\xc2\x9bc' >escape.txt
"$binary" tokenizer encode escape.txt --tokenizer base/model/tokenizer.json >ids.txt
"$binary" tokenizer decode ids.txt --tokenizer base/model/tokenizer.json | cmp - escape.txt || fail 'decoded bytes are others'
/usr/bin/python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$binary" tokenizer decode ids.txt \
  --tokenizer base/model/tokenizer.json >shown.txt </dev/null
says 'a?[2Jb??c' shown.txt

# `bench` starts mpirun itself, also as root; a stand-in says what it is given.
mkdir bin && printf '#!/bin/sh\necho root $OMPI_ALLOW_RUN_AS_ROOT $OMPI_ALLOW_RUN_AS_ROOT_CONFIRM "$*"\n' >bin/mpirun && chmod +x bin/mpirun
PATH=$PWD/bin:$PATH env -u OMPI_ALLOW_RUN_AS_ROOT "$binary" bench step --ranks 2 >bench.txt 2>bench.err
if [ "$(id -u)" = 0 ]; then
  says 'root 1 1 -n 2' bench.txt
  says 'OMPI_ALLOW_RUN_AS_ROOT=1' bench.err
else
  says 'root 1 -n 2' bench.txt
fi
