#!/usr/bin/env bash
# Creates environment, events and layer. Arguments are passed on to the tool.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../common.sh
source "$here/../common.sh"

work=$here/out
mkdir -p "$work"

base=$(require_python)
find_tool
python=$(requirements_env quickstart "$base" "$here/requirements.txt")

"$python" -I "$here/make_events.py" "$work/events.json"
stage "$work/task" "$here/handler.py"

run_tool "$work" --entry "$work/task/handler.py" --event "$work/events.json" --python "$python" "$@"
