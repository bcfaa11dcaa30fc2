#!/usr/bin/env bash
# Tokenizers trained on the command line: any bytes survive a round trip, and the number of ranks changes nothing.
# Usage: tokenizer.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

cp "$source/README.md" a.txt
cat "$source"/base/*.h >b.txt
cat "$source"/tokenizer/*.c >c.txt
printf 'na\xc3\xafve \xe2\x82\xac\n' >d.txt
: >empty.txt

"$binary" tokenizer train --vocab 500 --out one.json a.txt b.txt c.txt d.txt empty.txt >log.txt
says '500 ids' log.txt
for ranks in 2 3; do
  mpirun -n $ranks "$binary" tokenizer train --vocab 500 --out ranks.json a.txt b.txt c.txt d.txt empty.txt >log.txt
  same one.json ranks.json
done

# Any bytes: text, every byte there is, broken UTF-8, nothing, no last newline, a special as text.
for i in $(seq 0 255); do printf "\\x$(printf %02x "$i")"; done >bytes.bin
printf 'caf\xc3 \xff\xfe <eos> end' >broken.bin
for file in a.txt c.txt d.txt bytes.bin broken.bin empty.txt; do
  "$binary" tokenizer encode --tokenizer one.json "$file" >ids.txt
  [ "$(wc -l <ids.txt)" = 1 ] || fail "the ids of $file are not one line"
  "$binary" tokenizer decode --tokenizer one.json ids.txt >back.bin
  same "$file" back.bin
  "$binary" tokenizer encode --tokenizer one.json <"$file" | "$binary" tokenizer decode --tokenizer one.json - >back.bin
  same "$file" back.bin
done

# Specials come first and are never made from text; they decode to their names.
"$binary" tokenizer encode --tokenizer one.json broken.bin | tr ' ' '\n' | grep -qx '[012]' && fail 'text became a special'
[ "$(echo '1 2' | "$binary" tokenizer decode --tokenizer one.json)" = '<bos><eos>' ] || fail 'specials do not decode'
"$binary" tokenizer train --vocab 257 --specials '<|endoftext|>' --out bytes.json a.txt >log.txt
says '257 ids, 0 merges' log.txt

expect 64 'needs train, encode or decode' "$binary" tokenizer
expect 64 'unknown action `learn`' "$binary" tokenizer learn
expect 64 'needs --vocab, --out' "$binary" tokenizer train --vocab 500 a.txt
expect 64 '--vocab 12x' "$binary" tokenizer train --vocab 12x --out x.json a.txt
expect 64 '--vocab 258 is smaller than 259' "$binary" tokenizer train --vocab 258 --out x.json a.txt
expect 64 '--tokenizer is missing' "$binary" tokenizer encode a.txt
expect 74 'none.txt' "$binary" tokenizer train --vocab 500 --out x.json a.txt none.txt
expect 74 'none.txt' mpirun -n 2 "$binary" tokenizer train --vocab 500 --out x.json a.txt none.txt
expect 74 'none.json' "$binary" tokenizer encode --tokenizer none.json a.txt
expect 74 'no/dir/x.json' "$binary" tokenizer train --vocab 300 --out no/dir/x.json a.txt
[ ! -e x.json ] || fail 'a failed training wrote a tokenizer'
head -c 1000 one.json >torn.json
expect 65 'torn.json' "$binary" tokenizer encode --tokenizer torn.json a.txt
for ids in '5 x 7' '500' '-1' '3.5' '99999999999999999999'; do
  echo "$ids" >ids.txt
  expect 65 'is no id from 0 to 499' "$binary" tokenizer decode --tokenizer one.json ids.txt
done
expect 74 'standard output' bash -c "'$binary' tokenizer decode --tokenizer one.json <<<'70 71' >/dev/full"
