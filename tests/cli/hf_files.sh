#!/usr/bin/env bash
# Model directories as other programs see them: what stands in the files of both exports, what of a given tokenizer
# survives, and what config.json and weights may not say. Usage: hf_files.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

train() {
  "$binary" train "$source/configs/tiny.yaml" data.offline=true data.sources="$source/data/sample" data.holdout=devil \
    train.steps=2 "$@" >log.txt 2>&1 || { cat log.txt; fail "train $*"; }
}
# holds DIR FILE EXPRESSION: true of the JSON `d`.
holds() {
  /usr/bin/python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(not eval(sys.argv[2]))' \
    "$1/$2" "$3" || { cat "$1/$2"; fail "$1/$2: not $3"; }
}
edit() {  # edit DIR FILE STATEMENT
  /usr/bin/python3 -c 'import json, sys; f = sys.argv[1]; d = json.load(open(f)); exec(sys.argv[2]); json.dump(d, open(f, "w"))' \
    "$1/$2" "$3"
}

train data.cache=cache train.run_dir=tnl
train data.cache=cache train.run_dir=llama model.family=llama model.pattern=N model.lrpe=none model.tied=true train.seq=32
for dir in tnl/model llama/model; do
  holds $dir tokenizer_config.json 'd["tokenizer_class"] == "PreTrainedTokenizerFast"'
  holds $dir tokenizer_config.json '(d["pad_token"], d["bos_token"], d["eos_token"]) == ("<pad>", "<bos>", "<eos>")'
  holds $dir tokenizer_config.json 'd["clean_up_tokenization_spaces"] is d["add_bos_token"] is d["add_eos_token"] is False'
  holds $dir special_tokens_map.json 'd == dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")'
  holds $dir generation_config.json 'd == dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)'
done
holds tnl/model config.json 'd["max_position_embeddings"] == 64'
holds llama/model config.json 'd["max_position_embeddings"] == 32 and d["tie_word_embeddings"] is True'
holds llama/model tokenizer_config.json 'd["model_max_length"] == 32'

# Our own export comes back, and a second export of it is the same, file by file.
"$binary" ckpt export --model llama/model --out again >log.txt 2>&1
[ "$(ls again)" = "$(ls llama/model)" ] || fail "other files: $(ls again)"
for file in llama/model/*; do same "$file" "again/${file##*/}"; done

# What the source says about itself is kept; only weights and config.json are written anew.
cp -r llama/model own
edit own tokenizer_config.json 'd["chat_template"] = "{{ messages }}"'
edit own generation_config.json 'd["eos_token_id"] = [2, 7]'
edit own config.json 'd["max_position_embeddings"] = 4096'
rm own/special_tokens_map.json
"$binary" ckpt export --model own --out copied --dtype BF16 >log.txt 2>&1
same own/tokenizer_config.json copied/tokenizer_config.json
same own/generation_config.json copied/generation_config.json
[ ! -e copied/special_tokens_map.json ] || fail 'a file was added to those of the source'
holds copied config.json 'd["max_position_embeddings"] == 4096 and d["torch_dtype"] == "bfloat16"'
rm own/tokenizer.json
"$binary" ckpt export --model own --out untold >log.txt 2>&1
[ "$(ls untold | tr '\n' ' ')" = 'config.json generation_config.json model.safetensors ' ] || fail "without a tokenizer: $(ls untold)"

# A given tokenizer that composes text and has a template with <bos>: it goes through byte for byte.
mkdir given && cp tnl/model/tokenizer.json given
edit given tokenizer.json 'd["normalizer"] = {"type": "NFC"}; d["post_processor"] = {"type": "TemplateProcessing",
  "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
  "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}}}'
train data.cache=cache2 train.run_dir=bos data.tokenizer=given/tokenizer.json
same given/tokenizer.json bos/model/tokenizer.json
holds bos/model tokenizer_config.json '"add_bos_token" not in d and d["bos_token"] == "<bos>"'
train data.cache=cache2 train.run_dir=from train.init=bos/model
same given/tokenizer.json from/model/tokenizer.json
printf 'cafe\xcc\x81' >nfd.txt && printf 'caf\xc3\xa9' >nfc.txt
for tokenizer in given/tokenizer.json tnl/model/tokenizer.json; do
  for file in nfd nfc; do "$binary" tokenizer encode --tokenizer $tokenizer $file.txt >$file.ids; done
  if [ $tokenizer = given/tokenizer.json ]; then same nfd.ids nfc.ids; else cmp -s nfd.ids nfc.ids && fail 'composed without being told'; fi
done

# Refused by name: values of another type, and a head that is not what config.json says.
for bad in 'head_dim="64"' 'rope_scaling={"type": "linear", "factor": 2.0}' 'rope_parameters={"rope_theta": "1e6"}' \
  'rope_parameters={"rope_type": 5}' 'vocab_size=512.5' 'sliding_window=128' 'quantization_config={"bits": 4}'; do
  rm -rf odd && cp -r llama/model odd
  edit odd config.json "d[\"${bad%%=*}\"] = ${bad#*=}"
  expect 65 "odd/config.json: ${bad%%=*}" "$binary" generate --model odd --prompt a --max-new 1
done
rm -rf odd && cp -r llama/model odd
edit odd tokenizer.json 'd["added_tokens"][1]["lstrip"] = "yes"'
expect 65 'added_tokens[1].lstrip = "yes"' "$binary" generate --model odd --prompt a --max-new 1
/usr/bin/python3 - <<'P'
import json, struct
b = open("llama/model/model.safetensors", "rb").read()
n, = struct.unpack("<Q", b[:8])
h, data = json.loads(b[8:8 + n]), bytearray(b[8 + n:])
begin, end = h["model.embed_tokens.weight"]["data_offsets"]
h["lm_head.weight"] = dict(h["model.embed_tokens.weight"], data_offsets=[len(data), len(data) + end - begin])
for name, change in ("twin", 0), ("other", 1):
    head = bytearray(data[begin:end])
    head[2] ^= change
    text = json.dumps(h).encode()
    open(name + ".safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data + head)
P
cp twin.safetensors odd/model.safetensors && cp llama/model/tokenizer.json odd
"$binary" generate --model odd --prompt a --max-new 1 >log.txt 2>&1 || fail 'a head equal to the embedding is refused'
cp other.safetensors odd/model.safetensors
expect 65 'lm_head.weight' "$binary" generate --model odd --prompt a --max-new 1
expect 65 'tie_word_embeddings' "$binary" train "$source/configs/tiny.yaml" data.offline=true data.cache=cache \
  data.sources="$source/data/sample" data.holdout=devil train.steps=1 train.run_dir=tied train.init=odd
edit odd config.json 'd["tie_word_embeddings"] = False'
"$binary" generate --model odd --prompt a --max-new 1 >log.txt 2>&1 || fail 'an untied head is refused'
