#!/usr/bin/env bash
# Text by any way is training text: eval and prompts in every form of a file give the same figures, a model that records no normalisation gets
# its text unchanged, what cleaning left out is told, and a mapped file that is cut short ends the program in order.
# Usage: text.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

# A directory with everything in it.
mkdir texts
sample=$source/data/sample/devil.txt
cp "$sample" texts/A.TXT
head -c 20000 "$source/data/sample/austen.txt" | iconv -t UTF-16 >texts/b.txt
head -c 9000 "$source/data/sample/kjv.txt" | xz >texts/c.md.xz
/usr/bin/python3 -c 'import json
for i in range(300): print(json.dumps({"text": "Record number %d of a list\0 of them.\r\n" % i}) if i != 7 else "{")' >texts/d.NDJSON
printf 'caf\351, na\357ve\n' >texts/latin.txt
ln -s "$sample" texts/e.txt
train() {
  settle data.offline=true data.sources=texts data.cache=cache data.vocab=400 train.steps=2 "$@"
  "$binary" train "$source/configs/tiny.yaml" "${settled[@]}"
}
train train.run_dir=run >log.txt
says 'corpus: texts: files that are no text in UTF-8 left out: 1, damaged lines left out: 1, files decoded from UTF-16 or UTF-32: 1' log.txt
says 'removed: 299' log.txt
says 'latin.txt: ISO-8859-1' log.txt
says 'd.NDJSON:8' log.txt
says '1 duplicates' log.txt
says '"bad_lines": 1' run/corpus.json
says 'damaged lines left out: 1' run/report.html
says 'latin.txt: ISO-8859-1' run/report.html
says '"text_normalisation": "sterna-1"' run/model/config.json

# A run of a version that did not have these keys goes on, unless they are given values.
sed -i '/data.max_/d' run/config.requested.yaml
train train.run_dir=run >log.txt
says 'resuming after step 2' log.txt
expect 64 'data.max_invalid: (none) -> 0.02' train train.run_dir=run data.max_invalid=0.02

# The same text in other forms; a model that records nothing tells them apart.
mkdir bare && cp run/model/* bare && sed -i '/text_normalisation/d' bare/config.json
printf 'It was caf\303\251\n\nand she had\nmore than that\n' >plain
sed 's/$/\r/' plain >crlf
gzip <plain >packed.gz
iconv -t UTF-16 plain >utf16
{ printf '\357\273\277'; cat plain; } >marked
sed 's/\xc3\xa9/e\xcc\x81/' plain >nfd
sed 's/she/s\x00he/' plain >nul
eval_of() { "$binary" eval --model "$@"; }
prompts_of() { "$binary" generate --max-new 4 --greedy --print-ids --model "$@"; }
eval_of run/model --text plain >wanted.eval
prompts_of run/model --prompts plain >wanted.ids
eval_of bare --text plain >bare.eval
for form in crlf packed.gz utf16 marked nfd nul; do
  eval_of run/model --text $form >got && same wanted.eval got
  prompts_of run/model --prompts $form >got && same wanted.ids got
  eval_of bare --text $form >got
  case $form in
    packed.gz | utf16) same bare.eval got ;;
    *) ! cmp -s bare.eval got || fail "a model that records nothing gets $form changed" ;;
  esac
done
# A prompt keeps what it ends with.
"$binary" generate --model run/model --prompt $'\nIt was \r\n\r\n' --max-new 1 --greedy >got
[ "$(head -c 8 got | tr '\n' '/')" = 'It was//' ] || fail 'the end of a prompt'
prompts_of run/model --prompt 'It was ' >a
prompts_of run/model --prompt $'\r\nIt was ' >got && same a got
# The normalisation goes with exports; encoding never normalises.
"$binary" ckpt export --model run/model --out exported >log.txt
says '"text_normalisation": "sterna-1"' exported/config.json
"$binary" tokenizer encode --tokenizer run/model/tokenizer.json crlf | "$binary" tokenizer decode --tokenizer run/model/tokenizer.json - >back
same crlf back
# Training a tokenizer reads like a corpus.
for form in plain crlf packed.gz utf16 nfd; do
  mkdir t.$form && cp $form t.$form/x.txt
  "$binary" tokenizer train --vocab 280 --out $form.json $form >log.txt 2>&1
  same plain.json $form.json
done

# --stop holds for printed ids.
generate() { "$binary" generate --model run/model --prompt 'It was' --max-new 40 --seed 3 "$@"; }
generate >whole
generate --print-ids >ids
stop=$(tail -c +20 whole | grep -aoE '[a-z]{2}' | head -n 1)
generate --stop "$stop" | tail -c +7 | tr -d '\n' >text
generate --print-ids --stop "$stop" >cut
[ "$(head -c $(($(wc -c <cut) - 1)) ids)" = "$(cat cut)" ] || fail 'a stop text changes the ids before it'
[ "$(wc -c <cut)" -lt "$(wc -c <ids)" ] || fail 'a stop text cuts no ids'
# The ids stand for the text before the stop text, but for the part of a token that reaches into it.
"$binary" tokenizer decode --tokenizer run/model/tokenizer.json cut | sed 's/<[a-z]*_*[0-9]*>//g' | iconv -c -f UTF-8 -t UTF-8 | tr -d '\n' >ids.text
[ "$(wc -c <ids.text)" -le "$(wc -c <text)" ] || fail 'ids behind the stop text'

# What is refused.
sed 's/sterna-1/sterna-99/' run/model/config.json >bare/config.json
expect 65 "text_normalisation 'sterna-99' is not known" eval_of bare --text plain
expect 65 "text_normalisation 'sterna-99' is not known" train train.run_dir=other train.init=bare data.cache=c2
iconv -t ISO-8859-1 plain >latin
head -c 3000 /bin/sh >binary
for file in latin binary; do
  expect 65 "$file: not text in UTF-8" eval_of run/model --text $file
  expect 65 "$file: not text in UTF-8" prompts_of run/model --prompts $file
  expect 65 "$file: not text in UTF-8" train train.run_dir=other data.sources=./$file data.cache=c2
  expect 65 "$file: not text in UTF-8" "$binary" tokenizer train --vocab 280 --out x.json $file
done
expect 65 '--prompt: not text in UTF-8' prompts_of run/model --prompt "$(cat latin)"
expect 64 'records of JSON' eval_of run/model --text texts/d.NDJSON
expect 65 'texts/d.NDJSON:8' train train.run_dir=other data.cache=c2 data.max_bad_lines=0.001
