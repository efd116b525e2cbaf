#!/usr/bin/env bash
# Creates environment, trained model, layer and the zip of the function. With --without-torch as the first argument, the
# layer is for a function that has torch from another layer. Other arguments are passed on to the tool.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../common.sh
source "$here/../common.sh"

work=$here/out
mkdir -p "$work"

# Lambda's limit is for layer and function together: what is the least likely to be needed is left out.
native=native
chosen=(--cold auto --function-zip "$work/function.zip")
if [[ ${1:-} == --without-torch ]]; then
    shift
    chosen=(--provided torch,torchvision,filelock,fsspec,jinja2,markupsafe,mpmath,networkx,sympy,typing-extensions)
fi
# torch fits if only its used pages are shipped; without it, or into more space, it does without.
if has_option --provided "${chosen[@]}" "$@" || has_option --max-size "$@"; then
    native=
fi

base=$(require_python)
find_tool "$native"
python=$(requirements_env fastai_vision "$base" "$here/requirements.txt")

train_once "$work" "$python" "$here/train.py" "$here/torchvision_shim.py"
stage "$work/task" "$here/handler.py" "$here/torchvision_shim.py" "$work/square.png"

run_tool "$work" --entry "$work/task/handler.py" --model "$work/export.pkl" --event "$work/event_image.json" \
    --event "$work/event_path.json" --python "$python" "${chosen[@]}" "$@"
