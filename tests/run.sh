#!/usr/bin/env bash
# Runs the checks from nothing: style, types, import contracts, tests with coverage, the built wheel, the examples.
# Long tests are distributed over eight commits, and tests that have passed here with the same inputs are skipped; the
# end of a run prints which tests were skipped, and why. With --all nothing is skipped.
# Arguments are passed on to pytest, for example: ./tests/run.sh -k planner -m "not example"
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../examples/common.sh
source "$here/../examples/common.sh"
cd "$CHECKOUT"

# strace, compilers, linkers, container engines, shells and a browser. Tests that need a missing one are skipped.
packages=(strace openssl gcc libc6-dev g++ clang make binutils llvm lld patchelf mmdebstrap
    g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user qemu-user-static docker.io iptables podman
    containernetworking-plugins catatonit chromium zsh tcsh)

# missing PACKAGE...: print the packages that are not installed.
missing() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            printf '%s\n' "$package"
    done
}

# lacks_headers PYTHON: if there are no headers for extension modules of PYTHON, print the package that has Debian's.
lacks_headers() {
    "$1" -I - <<'PYTHON'
import os
import sys
import sysconfig

if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("python%d.%d-dev" % sys.version_info[:2])
PYTHON
}

base=$(require_python)
mapfile -t wanted < <(missing "${packages[@]}" && lacks_venv "$base" && lacks_headers "$base")
if ((${#wanted[@]})) && ! apt_install "${wanted[@]}"; then
    if [[ $EUID -eq 0 ]]; then
        # One by one: a package that cannot be installed must not prevent the others.
        for package in "${wanted[@]}"; do
            apt_install "$package" || say "no $package: some tests will be skipped"
        done
    else
        say "some tests will be skipped, for want of packages that this installs:
    $(how_to_install "${wanted[@]}")"
    fi
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# development_requirements PYTHON: print the requirements of this project and its tests, from pyproject.toml.
development_requirements() {
    "$1" -I - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print(*project["build-system"]["requires"], "wheel", sep="\n")
print(*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"], sep="\n")
PYTHON
}

development_requirements "$base" >"$scratch/requirements.txt"
python=$(requirements_env development "$base" "$scratch/requirements.txt")
bin=$(dirname "$python")
say "the newest CPythons, from Debian"
"$python" -m tests.support.debian_pythons

# style: check style, types and import contracts.
style() {
    "$bin/ruff" check . && "$bin/ruff" format --check . && "$bin/mypy" && "$bin/lint-imports"
}

# show_and_end FILE: print the output of a program that failed, and end the run.
show_and_end() {
    cat "$1" >&2
    exit 1
}

say "style, types and import contracts, while the sdist and the wheels are built"
style >"$scratch/style.log" 2>&1 &
checks=$!
./.packaging/release.sh "$scratch/dist" >"$scratch/build.log" 2>&1 || show_and_end "$scratch/build.log"
wait "$checks" || show_and_end "$scratch/style.log"
cat "$scratch/style.log"
wheel=$(echo "$scratch"/dist/*"_$(uname -m).whl")
say "installing $(basename "$wheel") for the tests"
quiet_pip "$python" install --no-deps --force-reinstall "$wheel"

commits=$(git rev-list --count HEAD 2>/dev/null || echo 0)
turn="$((commits % 8 + 1))/8"

say "tests; of the long ones turn $turn (--all: all of them)"
# Not "python -m pytest", which would put the checkout before the installed package. Values of options are joined by "=":
# pytest would take others for paths until it has read the conftest.py that declares the options.
LAYER_MINIMIZER_WHEEL=$wheel "$bin/pytest" --numprocesses "$((2 * $(nproc)))" --dist loadscope --no-loadscope-reorder --durations 40 --cov \
    --cov-report=term-missing:skip-covered "--turn=$turn" "--proofs=$CACHE/proofs" "$@"
