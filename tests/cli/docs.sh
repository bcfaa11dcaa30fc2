#!/usr/bin/env bash
# The commands printed in the documentation work. Runs every ```sh block of README.md and docs/*.md, file by file and in order, in a
# scratch directory that looks like the source tree; build/release/sterna stands there for the tested binary.
# Usage: docs.sh BINARY SOURCE_DIR [FILE.md ...]
#
# A comment on the line before a block changes how it is run, not what readers see:
#   <!-- test: skip, REASON -->        not run
#   <!-- test: set KEY=VALUE ... -->   these settings are given to every sterna command of the block that takes settings, instead of
#                                      those of the same key: shorter training, for example
#   <!-- test: exit CODE -->           the block's last command is to end with this code
# Each block is a shell of its own (bash -e). Of a block that fails, commands and output are printed.
set -u
binary=$(realpath "$1") source=$(realpath "$2")
shift 2
if [ $# -gt 0 ]; then files=("$@"); else files=("$source/README.md" "$source"/docs/*.md); fi
for i in "${!files[@]}"; do files[i]=$(realpath "${files[i]}"); done

# As ctest sets it; for runs by hand.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1

scratch=$(mktemp -d ./docs.XXXXXX)
scratch=$(realpath "$scratch")
trap 'rm -rf "$scratch"' EXIT

# One file a block: FILE.LINE.sh, with its directives as comments in front.
extract() {
  awk -v out="$scratch/blocks/$2" '
    /^<!-- test: / { directive = $0; next }
    !inside && /^```sh *$/ { inside = 1; name = sprintf("%s.%04d.sh", out, NR); print "#" directive >name; next }
    inside && /^```/ { inside = 0; close(name) }
    inside { print >name; next }
    !/^ *$/ { directive = "" }' "$1"
}

# A tree for one documentation file: everything but what builds and runs leave behind.
make_tree() {
  mkdir -p "$1/build/release"
  for path in "$source"/*; do
    case ${path##*/} in build | runs | docs.*) ;; *) ln -s "$path" "$1/" ;; esac
  done
  cat >"$1/build/release/sterna" <<WRAPPER
#!/usr/bin/env bash
# Settings of DOCS_SET replace those of the same key.
case \${1:-} in train | bench | plan | data) ;; *) exec "$binary" "\$@" ;; esac
words=()
for word in "\$@"; do
  for setting in \${DOCS_SET:-}; do [ "\${word%%=*}" != "\${setting%%=*}" ] || continue 2; done
  words+=("\$word")
done
exec "$binary" "\${words[@]}" \${DOCS_SET:-}
WRAPPER
  chmod +x "$1/build/release/sterna"
}

# Runs one block in the tree; prints it when its exit code is not the expected one.
run_block() {
  local block=$1 tree=$2 directive expected=0 settings='' code=0
  directive=$(head -n 1 "$block" | sed -nE 's/^#<!-- test: (.*) -->.*/\1/p')
  case $directive in
    skip*) skipped=$((skipped + 1)); return 0 ;;
    set\ *) settings=${directive#set } ;;
    exit\ *) expected=${directive#exit } ;;
    '') ;;
    *) echo "$block: unknown directive: $directive"; return 1 ;;
  esac
  local begin=$SECONDS
  (cd "$tree" && DOCS_SET=$settings timeout -k 5 120 bash -exo pipefail "$block") >"$scratch/log" 2>&1 </dev/null || code=$?
  ran=$((ran + 1))
  [ "$code" != "$expected" ] || { echo "ok    $((SECONDS - begin)) s  $(basename "$block" .sh)"; return 0; }
  echo "FAILED $(basename "$block" .sh): exit code $code, expected $expected (settings: ${settings:-none})"
  sed 's/^/    /' "$scratch/log" | tail -n 60
  return 1
}

ran=0 skipped=0 failed=0
mkdir "$scratch/blocks"
for file in "${files[@]}"; do
  name=$(basename "$file" .md)
  extract "$file" "$name"
  ls "$scratch/blocks/$name".*.sh >/dev/null 2>&1 || continue
  make_tree "$scratch/$name"
  for block in "$scratch/blocks/$name".*.sh; do
    run_block "$block" "$scratch/$name" || failed=$((failed + 1))
  done
done
echo "$ran blocks run, $skipped skipped, $failed failed, $SECONDS s"
[ "$ran" -gt 0 ] && [ "$failed" = 0 ]
