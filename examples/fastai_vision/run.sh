#!/usr/bin/env bash
# Creates environment, trained model and layer. Arguments are passed on to the tool.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../common.sh
source "$here/../common.sh"

work=$here/out
mkdir -p "$work"

base=$(require_python)
python=$(requirements_env fastai_vision "$base" "$here/requirements.txt")
find_tool

train_once "$work" "$python" "$here/train.py" "$here/torchvision_shim.py"
stage "$work/task" "$here/handler.py" "$here/torchvision_shim.py" "$work/square.png"

# torch does not fit into the same layer: by default another layer provides torch and its dependencies.
provided=(--provided torch,torchvision,filelock,fsspec,jinja2,markupsafe,mpmath,networkx,sympy,typing-extensions)
if has_option --provided "$@" || has_option --max-size "$@"; then
    provided=()
fi
run_tool "$work" --entry "$work/task/handler.py" --model "$work/export.pkl" --event "$work/event_image.json" \
    --event "$work/event_path.json" --python "$python" "${provided[@]}" "$@"
