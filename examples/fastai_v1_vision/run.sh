#!/usr/bin/env bash
# Creates environment, trained model and layer. Arguments are passed on to the tool.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../common.sh
source "$here/../common.sh"

work=$here/out
mkdir -p "$work"

base=$(find_python 3.6) || die 3 "CPython 3.6 is missing: fastai v1 and torch 1.1 do not install on a newer Python.
Put a python3.6 on PATH or install one with pyenv (pyenv install 3.6.15), then run this again."
find_tool
python=$(requirements_env fastai_v1_vision "$base" "$here/requirements.txt" 21.3.1)

train_once "$work" "$python" "$here/train.py"
stage "$work/task" "$here/predict.py" "$work/shape.png"

# torch does not fit into the same layer: by default another layer provides it.
provided=(--provided torch)
if has_option --provided "$@" || has_option --max-size "$@"; then
    provided=()
fi
run_tool "$work" --entry "$work/task/predict.py" --model "$work/export.pkl" --python "$python" "${provided[@]}" "$@"
