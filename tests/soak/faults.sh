#!/usr/bin/env bash
# Faults that are planted one after the other in a copy of this tree; the tests that are named must find each. Part of
# ./test.sh --long; alone about 20 minutes.
# Usage: tests/soak/faults.sh [--list] [NAME ...]   ends with 1 when a fault is not found, or cannot be planted any more
set -euo pipefail
source=$(realpath "$(dirname "$0")/../..") work=$(realpath -m "$(dirname "$0")/../../build/faults")

# name | file | fragment, once in it | what stands there instead | build | tests (regular expression of ctest)
faults() {
  cat <<'TABLE'
halo                 | parallel/seq_kv.c                | bound[p] - i->dims.window + 1           | bound[p] - i->dims.window + 2           | release | mpi.layouts_agree_on_gradients.n2
fold-of-states       | parallel/seq_state.c             | f->seq->bound[high + 1]);               | f->seq->bound[high]);                   | release | mpi.layouts_agree_on_gradients.n3
scan-of-states       | parallel/seq_state.c             | if (place < d) continue;                | if (place <= d) continue;               | release | mpi.layouts_agree_on_gradients.n3
vocabulary-share     | parallel/tensor_ops.c            | (size_t)vocab, mesh->tp, mesh->tp_rank), | (size_t)vocab, mesh->tp, mesh->tp_rank) + (mesh->tp_rank > 0), | release | mpi.layouts_agree_on_gradients.n2
norm-counted-twice   | parallel/reduce.c                | r->counts_replicated = mesh->tp_rank == 0; | r->counts_replicated = true;         | release | mpi.layouts_agree_on_a_llama.n2
decay-of-a-state     | tensor/kernels/lightning_block.c | (real)expm1(-rate * b->m);              | (real)expm1(-rate * (b->m - 1));        | release | ^tensor$
document-reset       | tensor/kernels/attention.c       | if (first > low) low = first;           | if (first > low + 1) low = first;       | release | ^(tensor\|model)$
loss-of-ignored      | tensor/ops_loss.c                | targets[i] == IGNORE_TARGET ? 0 : b->lse[i] - b->hit[i]; | b->lse[i] - b->hit[i];  | release | ^(tensor\|model)$
bias-correction      | tensor/optim.c                   | pow(o->cfg.beta2, (double)step),        | pow(o->cfg.beta2, (double)step + 1),    | release | ^tensor$
gradient-of-a-late-weight | tensor/tape.c               | if (--p->uses == 0 &&                   | if (--p->uses <= 1 &&                   | release | ^tensor$
same-draws           | model/generate.c                 | .stream = stream + r}                   | .stream = stream}                       | release | ^model$
place-in-the-data    | data/loader.c                    | l->state = l->walk = *st;               | l->walk = *st;                          | release | ^data$
order-of-merges      | tokenizer/bpe_train.c            | return a->right < b->right;             | return a->right > b->right;             | release | ^tokenizer$
largest-character    | base/text.c                      | c > 0x10FFFF) return 0;                 | c >= 0x10FFFF) return 0;                | release | ^(base\|tokenizer)$
escape               | base/json_write.c                | if (code >= 0x20) return NULL;          | if (code >= 0x1F) return NULL;          | release | ^base$
lock-for-nobody      | base/lock.c                      | shared ? F_RDLCK : F_WRLCK              | F_RDLCK                                 | release | ^base$
kept-checkpoints     | checkpoints/steps.c              | seen++ < keep)                          | seen++ <= keep)                         | release | mpi.checkpoint_keeps_newest.n2
end-of-the-log       | train/metrics.c                  | line->step > step                       | line->step > step + 1                   | release | ^train$
bytes-of-an-end-mark | train/windows.c                  | == place + 1;                           | == place;                               | release | mpi.windows_are_documents_alone.n2
worst-of-all         | parallel/agree.c                 | worst = {(int)mine, comm->rank};        | worst = {(int)mine, 0};                 | release | mpi.agree_spreads
second-model-unsaved | train/parts.c                    | add_files(p, &p->learner[i]);           | if (i == 0) add_files(p, &p->learner[i]); | release | cli.two_models
rate-of-the-first    | train/step.c                     | &run->learner[i].cfg.schedule;          | &run->learner[0].cfg.schedule;          | release | cli.two_models
one-byte-too-few     | data/doc.c                       | .text = malloc(bytes + 1)}              | .text = malloc(bytes + (bytes == 0))}   | dev     | ^data$
end-of-a-blob        | checkpoints/manifest.c           | *out = malloc((size_t)n + 1);           | *out = malloc((size_t)n);               | dev     | ^(checkpoints\|mpi.checkpoint_round_trip.n2)$
used-after-free      | train/rundir.c                   | = config_diff(before, now,              | = config_diff((free(*(char *volatile *)&before), before), now, | dev  | cli.failures
leak-at-resume       | train/run.c                      | if (data->corpus_fixed) manifest_free(&m); |                                      | dev     | cli.train_(ranks\|resume)
TABLE
}

[ "${1:-}" != --list ] || { faults | awk -F ' *[|] *' '{ print $1, $2, $(NF - 1) }'; exit; }
[ -e "$source/CMakePresets.json" ] || { echo "$0: not in a checkout" >&2; exit 64; }
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
rm -rf "$work" && mkdir -p "$work"
(cd "$source" && git ls-files -z | xargs -0 cp --parents -t "$work")
cd "$work"

# Exactly one place may hold the fragment: plant FILE FRAGMENT OTHER.
plant() {
  python3 - "$@" <<'PY'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
if text.count(old) != 1:
    sys.exit(f"{path} holds {old!r} {text.count(old)} times")
open(path, "w").write(text.replace(old, new))
PY
}

bad=0 built=
trim() { sed -E 's/^ +| +$//g' <<<"$1"; }
while read -ru 3 line; do
  line=${line//\\|/$'\x01'}
  IFS='|' read -r name file old new preset tests <<<"$line"
  name=$(trim "$name") file=$(trim "$file") preset=$(trim "$preset") tests=$(trim "${tests//$'\x01'/|}")
  [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
  if [[ $built != *" $preset "* ]]; then
    cmake --preset "$preset" -DSTERNA_TESTS=ON >/dev/null
    cmake --build --preset "$preset" >build.log 2>&1 || { cat build.log >&2; exit 1; }
    built+=" $preset "
  fi
  if ! cp -p "$file" kept 2>/dev/null || ! plant "$file" "$(trim "$old")" "$(trim "$new")"; then
    printf '%-26s %s\n' "$name" 'CANNOT BE PLANTED'
    bad=1
    continue
  fi
  if ! cmake --build --preset "$preset" >build.log 2>&1; then
    tail -n 5 build.log >&2
    verdict='CANNOT BE BUILT' bad=1
  elif ctest --preset "$preset" -R "$tests" >test.log 2>&1; then
    verdict='NOT FOUND' bad=1
  elif grep -q 'No tests were found' test.log; then
    verdict='NO TEST' bad=1
  else
    verdict="found by $(sed -nE 's/^[[:space:]]*[0-9]+ - ([^ ]+) \(.*/\1/p' test.log | paste -sd ' ')"
  fi
  printf '%-26s %s\n' "$name" "$verdict"
  cp -p kept "$file" && touch "$file"
done 3< <(faults)
exit $bad
