#!/usr/bin/env bash
# docs/config.md and docs/sterna.1 are what the program prints; the manual page knows every command and exit code.
# Usage: config.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"

"$binary" config --markdown >config.md
"$binary" config --man >sterna.1
same config.md "$source/docs/config.md"
same sterna.1 "$source/docs/sterna.1"

# Every command of `sterna --help`, with the same words, and every exit code.
"$binary" --help >help.txt
sed -nE 's/^  ([a-z]+) +(.*)/\1\t\2/p' help.txt >commands.txt
[ "$(wc -l <commands.txt)" -ge 11 ] || fail "sterna --help lists too few commands"
sed 's/\\-/-/g; s/\\fB//g; s/\\fR//g' sterna.1 >plain.txt
while IFS=$'\t' read -r name summary; do
  grep -qE "^$name( |$)" plain.txt || fail "docs/sterna.1 has no command $name"
  says "$summary" plain.txt
  "$binary" "$name" --help >one.txt || fail "sterna $name --help ends with an error"
  says "sterna $name" one.txt
done <commands.txt
for code in 0 64 65 69 70 71 74 75 76; do says ".B $code" sterna.1; done

# All sections, in every style.
"$binary" config >text.txt
for key in train.steps optim.beta1 schedule.lr model.width data.cache parallel.dp sample.temperature; do
  says "$key" text.txt
  says "$key" config.md
  says "$key" sterna.1
done

expect 64 'unexpected word `more`' "$binary" config more
expect 64 'unknown option `--html`' "$binary" config --html
expect 64 '--markdown and --man' "$binary" config --markdown --man
expect 64 'unknown command `nothing`' "$binary" nothing
