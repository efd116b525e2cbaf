#!/usr/bin/env bash
# Installs the tool from the checkout that this action is part of, into an environment in the cache of the tool, and strace.
#
# Environment variables:
#   PYTHON                 the interpreter of the environment
#   LAYER_MINIMIZER_CACHE  the folder for the environment
#   GITHUB_OUTPUT          the file to which the path of the command is written, as "minimize"
set -euo pipefail

# shellcheck source=../../../examples/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../../examples/common.sh"

if ! command -v strace >/dev/null && ! apt_install strace && ! sudo -n apt-get install --yes strace >&2; then
    say "strace is not installed and cannot be installed: files that only C code opens may be missed"
fi
# With uv, which installs what locks and requirements have.
python=$(ensure_env tool "$PYTHON" "$(pack_tool | sha256sum) with uv" fill_with_tool '[uv]')
printf 'minimize=%s\n' "$(dirname "$python")/minimize" >>"$GITHUB_OUTPUT"
