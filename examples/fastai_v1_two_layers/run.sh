#!/usr/bin/env bash
# Creates environment, trained model, a base layer with PyTorch, and a layer with fastai on top of it.
# Arguments are passed on to the tool for the second layer.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../common.sh
source "$here/../common.sh"

sources=$EXAMPLES/fastai_v1_vision # the same script and model
work=$here/out
mkdir -p "$work"

base=$(find_python 3.6) || die 3 "CPython 3.6 is missing: fastai v1 and torch 1.1 do not install on a newer Python.
Put a python3.6 on PATH or install one with pyenv (pyenv install 3.6.15), then run this again."
find_tool
python=$(requirements_env fastai_v1_vision "$base" "$sources/requirements.txt" 21.3.1)

train_once "$work" "$python" "$sources/train.py"
stage "$work/torch_task" "$here/torch_users.py"
stage "$work/task" "$sources/predict.py" "$work/shape.png"

say "tracing what fastai uses of PyTorch"
"${TOOL[@]}" --entry "$work/task/predict.py" --model "$work/export.pkl" --python "$python" --effort 0 \
    --save-trace "$work/fastai.json" >&2

say "the base layer: PyTorch and NumPy"
others=$("$python" -I -m pip --disable-pip-version-check list --format=freeze | sed 's/==.*//' | grep -v -x -i -E 'torch|numpy' | paste -sd ,)
"${TOOL[@]}" --entry "$work/torch_task/torch_users.py" --trace "$work/fastai.json" --provided "$others" \
    --python "$python" --cold drop --effort 0 --output "$work/torch.zip" --report-json "$work/torch.json" >&2

say "the layer on top: fastai, without the files of the base layer"
run_tool "$work" --entry "$work/task/predict.py" --model "$work/export.pkl" --python "$python" \
    --base-layer "$work/torch.zip" --cold drop "$@"

"$python" -I - "$work" <<'END' >&2
import json
import os
import sys

work = sys.argv[1]
with open(os.path.join(work, "report.json")) as file:
    report = json.load(file)
task = os.path.join(work, "task")
function = sum(os.path.getsize(os.path.join(task, name)) for name in os.listdir(task))
sizes = [("torch.zip", report["base_bytes"]), ("layer.zip", report["layer"]["unzipped_bytes"]), ("function", function)]
together = sum(size for _, size in sizes)
for name, size in sizes + [("together", together), ("Lambda's limit", 262144000)]:
    print("%15s %12s bytes" % (name, format(size, ",")))
if together > 262144000:
    sys.exit("error: together they exceed Lambda's limit")
END
