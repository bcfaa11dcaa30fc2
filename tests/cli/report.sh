#!/usr/bin/env bash
# The report of whole, torn and empty run directories: always a page, escaped, self-contained and small. What real runs
# exchange is counted to the byte.
# Usage: report.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
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
cat >run/comm.json <<'JSON'
{"dp":2,"sp":2,"tp":1,"ranks":4,"steps":1000,"step_s":500,
 "uses":[{"name":"gradients <i>","calls":3000,"bytes":1048576000,"wait_s":8,"exposed_s":5},
         {"name":"states","calls":24000,"bytes":524288000,"wait_s":2,"exposed_s":1}],
 "between_steps":[{"name":"sums","calls":7,"bytes":2097152,"wait_s":1,"exposed_s":0.5}]}
JSON
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
# Per step: 3 calls, 1 MiB, 8 ms of which 5 exposed, of 500 ms; and the sum.
for text in 'Communication, per step' '<td>gradients &lt;i&gt;</td><td>3.0</td><td>1.000</td><td>8.00</td><td>5.00</td><td>1.0 %</td>' \
  '<td>all</td><td>27</td><td>1.500</td><td>10.00</td><td>6.00</td><td>1.2 %</td>' 'dp 2 x sp 2 x tp 1) over 1,000 steps' \
  '7 calls, 2.0 MiB a rank'; do
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
for file in metrics.jsonl corpus.json comm.json compressors.json exit.json config.resolved.yaml; do
  head -c 3000 "$binary" >rubbish/$file
done
"$binary" report rubbish >table.txt
says 'corpus.json, compressors.json, comm.json, exit.json, samples cannot be read' rubbish/report.html
says 'files not readable         corpus.json' table.txt
mkdir types && echo '{"sources":{"a":1},"parameters":"many","bytes_per_token":[],"model":7}' >types/corpus.json
echo '[1,2]' >types/compressors.json && echo '"text"' >types/exit.json
echo '{"ranks":2,"steps":1,"step_s":1,"uses":[7,{"name":5,"calls":"x"}],"between_steps":{"a":1}}' >types/comm.json
printf '[]\n{"kind":7}\n{"kind":"step"}\n\n{"kind":"step","step":1,"loss":2.5,"lr":0,"gnorm":0,"tok_s":0}\n{"kind":"eval","step":1}\n' >types/metrics.jsonl
printf '{"kind":"step","step":2,"loss":null,"gnorm":null}\n' >>types/metrics.jsonl
"$binary" report types >table.txt
says '2.5' types/report.html
says 'values that are not finite' types/report.html

expect 64 'needs one run directory' "$binary" report
expect 64 'needs one run directory' "$binary" report run empty
expect 74 'none: no such run directory' "$binary" report none
mkdir blocked && mkdir -p blocked/report.html/x
expect 74 'report.html' "$binary" report blocked

if short; then exit 0; fi
# ---- real runs: comm.json ----------------------------------------------------------------------

# train RANKS DIR SETTING...
train() {
  local ranks=$1 dir=$2
  shift 2
  mpirun -n "$ranks" "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache \
    data.sources="$source/data/sample" train.steps=6 train.eval_every=3 train.ckpt_every=3 "$@" >"$dir.log" 2>&1 ||
    { cat "$dir.log" >&2; fail "$dir"; }
}

# figure DIR TEXT KEY: of the exchange whose name begins so, all steps together.
figure() {
  python3 - "$@" <<'PYTHON'
import json, sys
c = json.load(open(sys.argv[1] + "/comm.json"))
print(*[u[sys.argv[3]] for u in c["uses"] if u["name"].startswith(sys.argv[2])])
PYTHON
}

# wanted DIR TEXT CALLS BYTES: of a rank (the mean) in the whole run.
wanted() {
  [ "$(figure "$1" "$2" calls)" = "$3" ] || fail "$1: $2: calls $(figure "$1" "$2" calls), not $3"
  [ "$(figure "$1" "$2" bytes)" = "$4" ] || fail "$1: $2: bytes $(figure "$1" "$2" bytes), not $4"
  says "<td>$2" "$1/report.html"
}

# Each rank keeps half of the gradients and sends the other; then it sends its half of the weights.
train 2 dp2
weights=$(python3 -c 'import json; print(json.load(open("dp2/comm.json"))["memory"]["weights"])')
real=$((weights / $(python3 -c 'import json; print(json.load(open("dp2/corpus.json"))["parameters"])')))
wanted dp2 'gradients' 6 $((6 * weights / 2))
wanted dp2 'updated weights' 6 $((6 * weights / 2))
grep -q '<td>states' dp2/report.html && fail 'states are exchanged without sequence parallelism'
says '16 sequences of 64 on 2 ranks' dp2.log

# A state is heads x key channels x value channels of each of 16 rows: 2 x 16 x 16, and twice the key channels in the first
# layer (LRPE); two linear layers, forward and backward. Keys and values of a chunk: 16 rows of 32 tokens, 2 x 16 channels.
train 2 sp2 parallel.sp=2
wanted sp2 'states of recurrent layers, forward' 12 $((6 * 16 * 2 * 16 * 16 * 3 * real))
wanted sp2 'states of recurrent layers, backward' 12 $((6 * 16 * 2 * 16 * 16 * 3 * real))
wanted sp2 'keys and values, forward' 6 $((6 * 16 * 32 * 2 * 16 * real))
says '16 sequences of 64 on 2 ranks (dp 1 x sp 2 x tp 1)' sp2.log

# No table for one rank; a second call finds nothing to do and leaves what the first counted.
train 1 alone
grep -q 'Communication' alone/report.html && fail 'one rank talks to itself'
cp dp2/comm.json before.json
train 2 dp2
same before.json dp2/comm.json

# A run that is told to stop counts its steps as well.
steps() {
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"
}
mpirun -n 2 "$binary" train "$source/configs/tiny.yaml" train.run_dir=stopped data.cache=cache \
  data.sources="$source/data/sample" train.steps=3000 train.eval_every=0 train.ckpt_every=0 >stopped.log 2>&1 &
run=$!
while ! grep -qs '"step":5,' stopped/metrics.jsonl && kill -0 $run; do sleep 0.1; done
[ ! -e stopped/comm.json ] || fail 'comm.json is written while the run goes on'
kill -USR1 $run
wait $run && fail 'the run was not stopped' || [ $? = 75 ] || { cat stopped.log >&2; fail 'the run ended with another code'; }
[ "$(steps stopped/comm.json steps)" = "$(steps stopped/exit.json step)" ] || fail 'a stopped run counts other steps than it made'
says 'Communication' stopped/report.html
