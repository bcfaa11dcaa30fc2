#!/usr/bin/env bash
# The report of whole, torn and empty run directories: always a page, escaped, self-contained and small.
# Usage: report.sh BINARY SOURCE_DIR
set -eu
binary=$1
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir -p work/run/samples work/empty && cd work

awk 'BEGIN {
  for (i = 1; i <= 20000; i++) {
    loss = i == 7777 ? "null" : 3 + 5 * exp(-i / 2000) + (i == 12345 ? 40 : 0)
    printf "{\"kind\":\"step\",\"step\":%d,\"loss\":%s,\"lr\":%.6g,\"gnorm\":%.4g,\"tokens\":1000,\"tokens_seen\":%d," \
           "\"step_s\":0.5,\"tok_s\":2000}\n", i, loss, 1e-3 * i / 20000, 1 / (1 + i / 100), 1000 * i
    if (i % 5000 == 0)
      printf "{\"kind\":\"eval\",\"step\":%d,\"final\":%s,\"nats_per_token\":3.5,\"bits_per_byte\":%g,\"tokens\":99}\n",
             i, i == 20000 ? "true" : "false", 3 - i / 20000
  }
  printf "{\"kind\":\"step\",\"step\":200" }' >run/metrics.jsonl
cat >run/corpus.json <<'JSON'
{"sources":[{"name":"austen","docs":6,"bytes":4000000,"tokens":1000000,"duplicates":0,"held_out_docs":1,"weight":0.6},
            {"name":"<script>x","docs":2,"bytes":2000000,"tokens":500000,"weight":0.4}],
 "bytes_per_token":4.0,"holdout_bytes":467000,"holdout_tokens":120000,"embedded_sample":true,
 "parameters":2712345,"model":"TransNormerLLM & more"}
JSON
echo '{"gzip -9":2.93,"xz -9e":2.47,"bzip2 -9":1.14,"odd":"text"}' >run/compressors.json
echo '{"reason":"finished","status":"OK","code":0,"step":20000,"steps":20000}' >run/exit.json
printf 'a:\n  b: 1  # <default>\n' >run/config.resolved.yaml
for step in 5 10 15 20; do printf "sample-$step <b>&\xff\x01 end" >"run/samples/step_0000$(printf %04d $step).txt"; done

"$binary" report run >table.txt
page=run/report.html
for text in austen 4.00 1,000,000 2,712,345 20,000 '4.000' '2000' 'gzip -9' run/report.html; do says "$text" table.txt; done
sed -n '/held-out/,$p' table.txt | awk '{print $1, $2}' | head -5 | paste -sd, | grep -q '^held-out bits/byte,bzip2 -9,this model,xz -9e,gzip -9$' ||
  { cat table.txt; fail 'the model does not stand among the compressors in order'; }

for text in '2.000' '2.71 M' '20.0 M' '&lt;script&gt;x' 'TransNormerLLM &amp; more' '# &lt;default&gt;' 'sample-20 &lt;b&gt;&amp;' \
  'finished' 'bzip2 -9 1.140' 'sample text that comes with the program' 'lines that cannot be read'; do
  says "$text" $page
done
# The three newest samples only; nothing raw from outside; nothing fetched; no curve of 20,000 points.
grep -q 'sample-5 ' $page && fail 'the oldest sample is shown'
grep -qE '<script|https?://|<link|<img|@import|url\(' $page && fail 'the page is not self-contained'
grep -q $'[\x01\xff]' $page && fail 'raw bytes of a sample in the page'
[ "$(wc -c <$page)" -lt 150000 ] || fail "the page has $(wc -c <$page) bytes"
grep -qi 'nan\b\|inf\b' <(grep -o "d='[^']*'" $page) && fail 'a curve has a point that is no number'
iconv -f UTF-8 -t UTF-8 $page >/dev/null || fail 'the page is not UTF-8'
# A single outlier survives the thinning: the first curve reaches the top of its plot, and only there.
[ "$(grep -m1 'class=raw' $page | grep -oE ' [0-9.]+' | sort -n | head -1 | tr -d ' ')" \< 30 ] || fail 'the outlier at step 12345 is gone'

# The same again, byte for byte.
cp $page first.html
"$binary" report run >/dev/null
same first.html $page

# Nothing there yet; rubbish everywhere; one line only.
"$binary" report empty >table.txt
says 'corpus.json is missing' empty/report.html
says 'no values yet' empty/report.html
mkdir -p rubbish/samples/step_1.txt
for file in metrics.jsonl corpus.json compressors.json exit.json config.resolved.yaml; do
  head -c 3000 "$binary" >rubbish/$file
done
"$binary" report rubbish >table.txt
says 'cannot be read' rubbish/report.html
mkdir types && echo '{"sources":{"a":1},"parameters":"many","bytes_per_token":[],"model":7}' >types/corpus.json
echo '[1,2]' >types/compressors.json && echo '"text"' >types/exit.json
printf '[]\n{"kind":7}\n{"kind":"step"}\n\n{"kind":"step","step":1,"loss":2.5,"lr":0,"gnorm":0,"tok_s":0}\n{"kind":"eval","step":1}' >types/metrics.jsonl
"$binary" report types >table.txt
says '2.5' types/report.html

expect 64 'needs one run directory' "$binary" report
expect 64 'needs one run directory' "$binary" report run empty
expect 74 'none: no such run directory' "$binary" report none
mkdir blocked && mkdir -p blocked/report.html/x
expect 74 'report.html' "$binary" report blocked
