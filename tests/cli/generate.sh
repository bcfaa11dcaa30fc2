#!/usr/bin/env bash
# Generation on the command line: greedy ids are the argmax of forward passes, prompts together are prompts alone, draws
# repeat with their seed, stop texts cut, whatever streams is UTF-8.
# Usage: generate.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
kind=$("$binary" --version | grep -oE 'f32|f64')
generate() { "$binary" generate --model "$@"; }

# Ids alone, without a tokenizer: every family and mixer.
for name in tied hybrid llama; do
  mkdir $name
  /usr/bin/python3 "$source/tests/oracle/tnl.py" make $name $name "$kind"
  generate $name --prompt-ids 3,1,2,9 --max-new 24 --greedy --print-ids >ids.txt
  PYTHONPATH=$source/tests/oracle /usr/bin/python3 - $name "$binary" <<'PYTHON' || fail "greedy ids of $name"
import subprocess, sys
import numpy as np, tnl
name, binary = sys.argv[1:]
new = [int(x) for x in open("ids.txt").read().split(",")]
text = np.array([[3, 1, 2, 9] + new])
tnl.st_write("ids.safetensors", {"input_ids": text})
subprocess.run([binary, "forward", name, "--ids", "ids.safetensors", "--out", "out.safetensors"], check=True, capture_output=True)
wanted = tnl.st_read("out.safetensors")["logits"][0].argmax(-1)[3:-1]
assert len(new) == 24 and new == wanted.tolist(), (new, wanted.tolist())
PYTHON
  generate $name --prompt-ids 3,1,2,9 --max-new 24 --temperature 0 --print-ids >again.txt
  same ids.txt again.txt
done

# Ranks that share the model draw the same tokens; other ways to share it are refused.
for name in tied hybrid llama; do
  mpirun -n 2 "$binary" generate --model $name --prompt-ids 3,1,2,9 --max-new 24 --greedy --print-ids parallel.tp=2 >two.txt
  generate $name --prompt-ids 3,1,2,9 --max-new 24 --greedy --print-ids >one.txt
  same one.txt two.txt
done
expect 64 'they can share the model only' mpirun -n 2 "$binary" generate --model tied --prompt-ids 3

# A small trained model with its tokenizer.
"$binary" train "$source/configs/tiny.yaml" train.run_dir=run data.cache=cache data.sources="$source/data/sample" >log.txt
model=run/model
generate $model --prompt 'It was' --max-new 30 --seed 7 >a.txt
generate $model --prompt 'It was' --max-new 30 --seed 7 >b.txt
same a.txt b.txt
generate $model --prompt 'It was' --max-new 30 --seed 8 >b.txt
! cmp -s a.txt b.txt || fail 'the seed has no effect'
grep -q '^It was' a.txt || fail 'the prompt is not printed in front'

# Prompts of several lengths together are each alone.
printf 'It was\n\nThe devil, n. A cause\nM\n' >prompts.txt
generate $model --prompts prompts.txt --max-new 20 --greedy --print-ids | grep -v -- --- >together.txt
[ "$(wc -l <together.txt)" = 3 ] || fail 'three prompts give not three lines'
line=0
while read -r prompt; do
  [ -n "$prompt" ] || continue
  line=$((line + 1))
  generate $model --prompt "$prompt" --max-new 20 --greedy --print-ids >alone.txt
  [ "$(cat alone.txt)" = "$(sed -n ${line}p together.txt)" ] || fail "prompt $line"
done <prompts.txt

# The stop text and what follows are cut; text before it is whole. Everything is UTF-8, even in pieces.
generate $model --prompt 'It was' --max-new 60 --temperature 1.5 --top-p 1 >whole.txt
stop=$(tail -c +20 whole.txt | head -c 3)
generate $model --prompt 'It was' --max-new 60 --temperature 1.5 --top-p 1 --stop "$stop" >cut.txt
! tail -c +7 cut.txt | grep -qF -- "$stop" || fail 'the stop text is printed'
size=$(($(wc -c <cut.txt) - 1))
cmp -n $size cut.txt whole.txt || fail 'a stop text changes what comes before it'
[ $size -lt "$(($(wc -c <whole.txt) - 1))" ] || fail 'the stop text cut nothing'
iconv -f UTF-8 -t UTF-8 whole.txt >/dev/null || fail 'the text is not UTF-8'

expect 64 '--model is missing' "$binary" generate --prompt x
expect 64 'unexpected word' generate $model --prompt x more
expect 64 'there is no prompt' generate $model
expect 64 '`1,x` is not a list of ids' generate $model --prompt-ids 1,x
expect 64 '999999' generate $model --prompt-ids 999999
expect 64 '--stop is empty' generate $model --prompt x --stop ''
expect 64 'temperature' generate $model --prompt x --temperature warm
expect 64 'top_p' generate $model --prompt x --top-p 1.5
expect 74 'nowhere: no such directory' generate nowhere --prompt x
expect 74 'none.txt' generate $model --prompts none.txt
expect 74 'tied/tokenizer.json: no such file' generate tied --prompt x
expect 74 'standard output' bash -c "'$binary' generate --model $model --prompt x --max-new 3 >/dev/full"
mkdir torn && cp run/model/* torn && head -c 1000 run/model/tokenizer.json >torn/tokenizer.json
expect 65 'torn/tokenizer.json' generate torn --prompt x
