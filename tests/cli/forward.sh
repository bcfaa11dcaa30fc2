#!/usr/bin/env bash
# What `sterna forward` refuses, and that a failure leaves no output. Its numbers are checked in oracle.sh.
# Usage: forward.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
kind=$("$binary" --version | grep -oE 'f32|f64')
python() { PYTHONPATH=$source/tests/oracle /usr/bin/python3 -c "import numpy as np, tnl; $1"; }
mkdir model
/usr/bin/python3 "$source/tests/oracle/tnl.py" make model tied "$kind"
ids=model/ids.safetensors

"$binary" forward model --ids $ids --out out.safetensors >log.txt
says 'over 228 targets' log.txt
python 'assert sorted(tnl.st_read("out.safetensors")) == ["logits", "loss"]'

expect 64 'needs a model directory, --ids and --out' "$binary" forward model --ids $ids
expect 64 'needs a model directory, --ids and --out' mpirun -n 2 "$binary" forward --ids $ids --out x.safetensors
expect 64 'unknown option `--gradients`' "$binary" forward model --gradients
expect 64 'model.blok' "$binary" forward model --ids $ids --out x.safetensors model.blok=3
expect 74 'nowhere: no such directory' "$binary" forward nowhere --ids $ids --out x.safetensors
expect 74 'none.safetensors' mpirun -n 3 "$binary" forward model --ids none.safetensors --out x.safetensors
expect 74 'no/such/x.safetensors' mpirun -n 2 "$binary" forward model --ids $ids --out no/such/x.safetensors

refused() { # TEXT: bad.safetensors, on one rank and on two
  expect 65 "$1" "$binary" forward model --ids bad.safetensors --out x.safetensors
  short || expect 65 "$1" mpirun -n 2 "$binary" forward model --ids bad.safetensors --out x.safetensors
}
python 'tnl.st_write("bad.safetensors", {"ids": np.zeros((2, 5), np.int64)})'
refused 'no usable tensor `input_ids`'
shapes=('(5,)') ids_out=(37)
short || shapes+=('(1, 1)' '(0, 5)') ids_out+=(-1 99999999999)
for shape in "${shapes[@]}"; do
  python "tnl.st_write('bad.safetensors', {'input_ids': np.zeros($shape, np.int64)})"
  refused 'no usable tensor `input_ids`'
done
python 'tnl.st_write("bad.safetensors", {"input_ids": np.zeros((2, 5), np.float32)})'
refused 'no usable tensor `input_ids`'
for id in "${ids_out[@]}"; do
  python "x = np.zeros((2, 5), np.int64); x[1, 3] = $id; tnl.st_write('bad.safetensors', {'input_ids': x})"
  refused "input_ids[1][3] = $id, but V = 37"
done
python 'x = np.zeros((2, 5), np.int64); tnl.st_write("bad.safetensors", {"input_ids": x, "document": x[:, 1:]})'
refused '`document` is not I64 of the shape'
python 'x = np.arange(10).reshape(2, 5); tnl.st_write("bad.safetensors", {"input_ids": x, "document": x})'
refused 'no token has a target'
head -c 200 $ids >bad.safetensors
refused 'bad.safetensors'

# A model directory with something wrong in it.
damaged() { rm -rf broken && cp -r model broken; }
damaged && rm broken/config.json
expect 74 'config.json' "$binary" forward broken --ids $ids --out x.safetensors
damaged && echo '{"model_type": "gpt2"}' >broken/config.json
expect 65 'config.json' "$binary" forward broken --ids $ids --out x.safetensors
damaged && rm broken/model.safetensors
expect 74 'model.safetensors' "$binary" forward broken --ids $ids --out x.safetensors
damaged && truncate -s -5 broken/model.safetensors
expect 65 'model.safetensors' mpirun -n 2 "$binary" forward broken --ids $ids --out x.safetensors
damaged && python 'w = tnl.st_read("model/model.safetensors"); w.pop("model.final_norm.weight", None); w.popitem()
tnl.st_write("broken/model.safetensors", w)'
expect 65 'is missing' "$binary" forward broken --ids $ids --out x.safetensors
[ ! -e x.safetensors ] || fail 'a refused call wrote an output'
