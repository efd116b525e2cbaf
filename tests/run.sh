#!/usr/bin/env bash
# Runs all checks from nothing: style, types, import contracts, tests with coverage, the built wheel, the examples.
# Arguments go to pytest, for instance: ./tests/run.sh -k planner -m "not example"
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../examples/common.sh
source "$here/../examples/common.sh"
cd "$CHECKOUT"

# An observer, compilers, linkers, shells and a browser make more of the tests possible; without them those are skipped and say so.
for package in strace openssl gcc libc6-dev g++ clang binutils llvm lld patchelf mmdebstrap \
    g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user docker.io iptables podman \
    containernetworking-plugins catatonit chromium zsh tcsh; do
    dpkg-query --status "$package" >/dev/null 2>&1 || apt_install "$package" ||
        say "no $package: some tests will be skipped"
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# development_requirements: print what this project and its tests depend on, from pyproject.toml.
development_requirements() {
    "$1" -I - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print(*project["build-system"]["requires"], "wheel", sep="\n")
print(*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"], sep="\n")
PYTHON
}

base=$(require_python)
development_requirements "$base" >"$scratch/requirements.txt"
python=$(requirements_env development "$base" "$scratch/requirements.txt")
bin=$(dirname "$python")

say "building the wheel"
mkdir "$scratch/source"
pack_tool | tar --extract --directory "$scratch/source"
"$python" -m build --no-isolation --outdir "$scratch/dist" "$scratch/source" >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log" >&2
    exit 1
}
wheel=$(echo "$scratch"/dist/*.whl)
# The tests run what users install, in the environment that the tests live in.
quiet_pip "$python" install --no-deps --force-reinstall "$wheel"

say "style, types, import contracts"
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/lint-imports"

# The cases that take minutes are dealt out to three runs, so that one run takes no longer than the rest of the tests.
commits=$(git rev-list --count HEAD 2>/dev/null || echo 0)
group="$((commits % 3 + 1))/3"

say "tests; of the heavy cases group $group (--heavy-cases 1/1: all of them)"
# Not "python -m pytest", which would put the checkout before the installed package.
LAYER_MINIMIZER_WHEEL=$wheel "$bin/pytest" --numprocesses 2 --dist loadscope --no-loadscope-reorder --durations 40 --cov \
    --cov-report=term-missing:skip-covered --heavy-cases "$group" "$@"
