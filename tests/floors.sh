#!/usr/bin/env bash
# The floors (docs/architecture.md): a folder includes itself and strictly lower floors, never a sibling, and each
# library is touched by one folder. Usage: floors.sh SOURCE_DIR. Prints every offending include; exit 1 if any.
set -u
cd "${1:-.}" || exit 1
declare -A floor=([base]=1 [tensor]=2 [tokenizer]=2 [parallel]=3 [model]=4 [data]=4 [checkpoints]=4 [train]=5 [bench]=6)
bad=0
for folder in "${!floor[@]}"; do
  [ -d "$folder" ] || continue
  while IFS=: read -r file line text; do
    target=$(sed -E 's|.*"([a-z0-9_]+)/.*|\1|' <<<"$text")
    if [ "$target" != "$folder" ] && { [ -z "${floor[$target]:-}" ] || [ "${floor[$target]}" -ge "${floor[$folder]}" ]; }; then
      echo "$file:$line: $folder (floor ${floor[$folder]}) must not include: $text"
      bad=1
    fi
  done < <(grep -rnE '^ *# *include *"' --include='*.[ch]' "$folder")
done
# library header -> where it may be included
while read -r header where; do
  while IFS=: read -r file line text; do
    [[ $file =~ ^($where) ]] || { echo "$file:$line: <$header> belongs in $where"; bad=1; }
  done < <(grep -rnE "^ *# *include *[<\"]$header" --include='*.[ch]' base tensor tokenizer parallel model data checkpoints train bench 2>/dev/null)
done <<'TABLE'
mpi\.h parallel/|train/main.c
cblas tensor/gemm
curl/ data/fetch
msgpack base/pack
jansson base/json
yaml base/yaml
pcre2 tokenizer/
utf8proc data/|tokenizer/
TABLE
exit $bad
