#!/usr/bin/env bash
# Makes what is published, the sdist and the wheels, in a folder (default: dist), and checks it. See release.py.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../examples/common.sh
source "$here/../examples/common.sh"

base=$(require_python)
python=$(requirements_env release "$base" "$here/requirements.txt")
exec "$python" -I "$here/release.py" "${1:-dist}"
