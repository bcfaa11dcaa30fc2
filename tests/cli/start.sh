#!/usr/bin/env bash
# A run that starts from a model does what was asked, or says before it reads any text why it cannot; it is evaluated as it is trained.
# Usage: start.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
train() { # RANKS SETTING...
  local ranks=$1
  shift
  settle data.offline=true data.sources="$source/data/sample" data.holdout=devil data.cache=cache train.steps=2 train.eval_every=0 "$@"
  local start=(mpirun -n "$ranks")
  [ "$ranks" != 1 ] || start=()
  "${start[@]}" "$binary" train "$source/configs/tiny.yaml" "${settled[@]}"
}
# Refused, with nothing made: neither a run nor a corpus.
refused() { # RANKS CODE TEXT SETTING...
  local ranks=$1 code=$2 text=$3
  shift 3
  expect "$code" "$text" train "$ranks" train.run_dir=no data.cache=none "$@"
  [ ! -e no ] && [ ! -e none ] || fail "a refused start left something: $*"
}
json() { # FILE PYTHON: changes the object `c` of a JSON file
  python3 -c "import json, sys; p = sys.argv[1]; c = json.load(open(p)); exec(sys.argv[2]); json.dump(c, open(p, 'w'))" "$1" "$2"
}
copy() { rm -rf "$1" && cp -r base/model "$1"; }
train 1 train.run_dir=base train.steps=10 >base.log
"$binary" tokenizer train --vocab 400 --out small.json "$source/data/sample/austen.txt" >log.txt
"$binary" tokenizer train --vocab 600 --out large.json "$source/data/sample/austen.txt" >log.txt

# ---- the tokenizer: the model's, or none ----
copy bare && rm bare/tokenizer.json
refused 2 64 'bare/tokenizer.json: no such file' train.init=bare
refused 1 65 'the tokenizer has 600 tokens, the model of bare only 512' train.init=bare data.tokenizer=large.json
refused 1 64 'is another tokenizer than base/model/tokenizer.json' train.init=base/model data.tokenizer=small.json
refused 1 64 'data.vocab=500, but base/model/tokenizer.json has 512' train.init=base/model data.vocab=500
refused 1 64 'data.vocab=500, but small.json has 400' data.tokenizer=small.json data.vocab=500
copy large && cp large.json large/tokenizer.json
refused 1 65 'the tokenizer has 600 tokens, the model of large only 512' train.init=large
expect 65 'the tokenizer has 600 tokens' "$binary" generate --model large --prompt x
rm bare/generation_config.json
json bare/config.json 'c["eos_token_id"] = None'
sed 's/<eos>/<fin>/' base/model/tokenizer.json >nameless.json
refused 1 64 'and config.json has no eos_token_id' train.init=bare data.tokenizer=nameless.json
refused 1 64 'one must end documents' data.tokenizer=nameless.json
refused 1 64 'is outside of the vocabulary of 400' train.init=bare data.tokenizer=small.json model.eos_id=450

# ---- the model: as config.json has it ----
refused 1 64 'model.layers: 9 -> 3' train.init=base/model model.layers=9
refused 1 64 'model.width: 2048 -> 32' train.init=base/model model.preset=tnl-1b
for command in 'generate --prompt x --model' 'eval --text small.json --model' 'ckpt export --out exported --model'; do
  expect 64 'model.ffn: 50 -> 48' "$binary" $command base/model model.ffn=50
done
expect 64 'model.ffn: 50 -> 48' "$binary" plan "$source/configs/tiny.yaml" train.init=base/model model.ffn=50
refused 1 74 'nowhere: no such directory' train.init=nowhere
copy torn && rm torn/config.json
refused 1 74 'torn/config.json' train.init=torn
copy torn && rm torn/model.safetensors
refused 1 74 'torn: neither model.safetensors' train.init=torn
copy torn && json torn/config.json 'c["glu_dim"] = 64'
refused 2 65 'the model wants [64, 32]' train.init=torn
copy torn && json torn/config.json 'c["eos_token_id"] = [5, 512]'
refused 1 65 'eos_token_id[1] = 512' train.init=torn

# ---- what is used, and where it came from; the same command resumes ----
end_of() { python3 -c "import struct, sys; print(*struct.unpack('<I', open(sys.argv[1], 'rb').read()[44:48]))" "$1/corpus/holdout.tns"; }
copy several && json several/config.json 'c["eos_token_id"] = [7, 2]' && echo '{"eos_token_id": [2, 9]}' >several/generation_config.json
train 2 train.run_dir=several.run train.init=several model.recompute=true model.layers=3 >log.txt 2>&1 || { cat log.txt; fail 'agreeing keys'; }
[ "$(end_of cache)" = 7 ] || fail 'the cached corpus ends documents in another way'
resolved=several.run/config.resolved.yaml
[ "$(sed -n '/^model:/,/^[a-l]\|^[n-z]/p' $resolved | grep -c '# train.init: several/config.json$')" = 37 ] || { cat $resolved; fail 'origins'; }
says 'recompute: true  # command line' $resolved
says 'vocab: 512  # train.init: several/tokenizer.json' $resolved
python3 -c 'import json; assert json.load(open("several.run/model/config.json"))["eos_token_id"] == [7, 2, 9]' || fail 'the list of ends'
train 1 train.run_dir=several.run train.init=several model.recompute=true model.layers=3 >log.txt
says 'resuming after step 2' log.txt
"$binary" train $resolved train.run_dir=again >log.txt || fail 'the resolved file is no configuration'
same <(sed 's/  #.*//; /run_dir/d' $resolved) <(sed 's/  #.*//; /run_dir/d' again/config.resolved.yaml)
train 1 train.run_dir=padded train.init=bare data.tokenizer=small.json >log.txt || fail 'a padded embedding'
says 'vocab: 400  # data.tokenizer: small.json' padded/config.resolved.yaml

# ---- held-out documents have the loss that each has alone ----
python3 - <<'PYTHON'
import json, random
random.seed(3)
words = "a quick red fox and some very lazy dogs went out for it".split()
texts = [" ".join(random.choices(words, k=random.randint(1, 16))) for _ in range(1200)]
open("short.jsonl", "w").writelines(json.dumps({"text": t, "title": "kept" if i < 14 else "t"}) + "\n" for i, t in enumerate(texts))
PYTHON
train 1 train.run_dir=short data.cache=short.cache data.sources=short.jsonl data.holdout=kept data.vocab=300 train.steps=20 >log.txt
python3 - "$binary" <<'PYTHON' || fail 'the held-out loss is not that of the documents alone'
import json, struct, subprocess, sys
d = open("short.cache/corpus/holdout.tns", "rb").read()
section = lambda i: struct.unpack("<QQ", d[88 + 32 * i:104 + 32 * i])
(at, n), (e, m) = section(0), section(1)
ids, ends = struct.unpack(f"<{n // 2}H", d[at:at + n]), struct.unpack(f"<{m // 8}Q", d[e:e + m])
nats = tokens = 0
for a, b in zip((0,) + ends, ends):
    h = json.dumps({"input_ids": {"dtype": "I64", "shape": [1, b - a], "data_offsets": [0, 8 * (b - a)]}}).encode()
    open("ids.st", "wb").write(struct.pack("<Q", len(h)) + h + struct.pack(f"<{b - a}q", *ids[a:b]))
    subprocess.run([sys.argv[1], "forward", "short/model", "--ids", "ids.st", "--out", "out.st"], check=True, capture_output=True)
    o = open("out.st", "rb").read()
    k, = struct.unpack("<Q", o[:8])
    where = json.loads(o[8:8 + k])["loss"]
    read = "<f" if where["dtype"] == "F32" else "<d"
    nats += struct.unpack_from(read, o, 8 + k + where["data_offsets"][0])[0] * (b - a - 1)
    tokens += b - a - 1
last = [json.loads(line) for line in open("short/metrics.jsonl")][-1]
print(len(ends), "documents alone", nats / tokens, "together", last)
assert last["tokens"] == tokens and abs(last["nats_per_token"] - nats / tokens) < 1e-5 * nats / tokens
PYTHON
