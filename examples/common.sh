# shellcheck shell=bash
# Functions shared by the examples' run.sh: find a Python, cache environments, install and run the tool. To be sourced.
#
# Environment variables:
#   MINIMIZE               the tool's command; default: the tool is installed from this checkout
#   LAYER_MINIMIZER_CACHE  the folder for cached environments
#
# Standard output is only that of the tool; messages of these functions go to standard error.

shopt -s inherit_errexit nullglob # a failure inside $(...) ends the run; a pattern without a match is empty

EXAMPLES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CHECKOUT=$(dirname "$EXAMPLES")
CACHE=${LAYER_MINIMIZER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layer_minimizer}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)

# say TEXT: print a message.
say() {
    printf '==> %s\n' "$1" >&2
}

# die CODE TEXT: print an error message, and end the run with this exit code.
die() {
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

# apt_install PACKAGE...: install Debian packages as root, or return 1 if that is not possible.
apt_install() {
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        return 1
    fi
    say "installing with apt-get: $*"
    apt-get -q update >&2 || true # the existing index may be sufficient
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >&2
}

# how_to_install PACKAGE...: print the command that installs Debian packages.
how_to_install() {
    printf 'sudo apt-get update && sudo apt-get install --no-install-recommends %s\n' "$*"
}

# find_python VERSION...: print the path of the first CPython found of these versions (like 3.11), on PATH or under
# pyenv, or return 1.
find_python() {
    local version candidate found candidates pyenv_versions=
    if command -v pyenv >/dev/null; then
        pyenv_versions=$(pyenv root)/versions
    fi
    for version in "$@"; do
        candidates=("python$version" python3)
        if [[ -n $pyenv_versions ]]; then
            mapfile -t -O 2 candidates < <(printf '%s\n' "$pyenv_versions/$version".*/bin/python"$version" | sort -rV)
        fi
        for candidate in "${candidates[@]}"; do
            # pyenv has shims on PATH for versions that are not selected, too; these fail.
            found=$("$candidate" -I -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null) ||
                continue
            if [[ $found == "$version "* ]]; then
                printf '%s\n' "${found#* }"
                return 0
            fi
        done
    done
    return 1
}

# require_python: print the path of a Python for the tool and the examples, or end the run.
require_python() {
    find_python 3.11 3.12 3.13 3.14 || die 3 "no Python 3.11 or newer found, neither on PATH nor under pyenv"
}

# lacks_venv PYTHON: if PYTHON cannot create virtual environments, as Debian's, print the package that changes that.
lacks_venv() {
    "$1" -I -c 'import ensurepip, venv' 2>/dev/null ||
        "$1" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
}

# can_compile PYTHON: return whether the C compiler that PYTHON builds extensions with, and the C library's headers, are
# there.
can_compile() {
    local compiler folder built=0
    read -r -a compiler <<<"${CC:-$("$1" -I -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}"
    folder=$(mktemp -d)
    "${compiler[@]}" -shared -fPIC -x c -o "$folder/probe.so" - <<<'#include <limits.h>' 2>/dev/null || built=1
    rm -rf "$folder"
    return "$built"
}

# make_venv PYTHON FOLDER: create a virtual environment; on Debian, install the package that this needs.
make_venv() {
    local package
    package=$(lacks_venv "$1")
    if [[ -n $package ]] && ! apt_install "$package" && ! apt_install python3-venv; then
        die 3 "$1 cannot create virtual environments. Install what is missing, then run this again:
    $(how_to_install "$package")"
    fi
    "$1" -I -m venv "$2"
}

# ensure_env NAME PYTHON CONTENT FILL...: print the path of the Python of a cached environment. If it does not exist, it
# is created: a virtual environment of PYTHON, filled by the command FILL... with the path of its Python as last argument.
# CONTENT is a text that identifies what is installed; another text or another PYTHON gives another environment. An
# unfinished environment has no marker file and is created again. Call it in $(...), which also releases the lock.
ensure_env() {
    local name=$1 python=$2 content=$3 identity digest env lock
    shift 3
    identity=$("$python" -I -c 'import sys; print(sys.version, sys.base_prefix)')
    digest=$(printf '%s\n' "$identity" "$content" | sha256sum)
    env=$CACHE/$name-${digest:0:12}
    exec {lock}>"$env.lock"
    flock "$lock"
    if [[ -e $env/complete ]] && "$env/bin/python" -I -c '' 2>/dev/null; then
        say "using the environment $env"
    else
        say "making the environment $env"
        rm -rf "$env"
        make_venv "$python" "$env"
        "$@" "$env/bin/python"
        touch "$env/complete"
    fi
    printf '%s\n' "$env/bin/python"
}

# quiet_pip PYTHON ARGUMENT...: run the pip of an environment, isolated from the caller's Python settings. Of its output
# only what takes long is shown.
quiet_pip() (
    set -o pipefail
    python=$1
    shift
    "$python" -I -u -m pip --disable-pip-version-check "$@" | long_steps >&2
)

# long_steps: of the output of pip, print every twentieth package that is looked up, large files, and what is built and
# installed.
long_steps() {
    local line words looked_up=0
    while IFS= read -r line; do
        read -r -a words <<<"$line"
        case ${words[*]} in
            "Collecting "*)
                ((++looked_up % 20)) || printf '    pip: %s packages looked up\n' "$looked_up"
                ;;
            "Downloading "*" MB)" | "Using cached "*" MB)" | "Building wheel"* | "Processing /"*)
                printf '    pip: %s\n' "${words[*]}"
                ;;
            "Installing collected packages: "*)
                printf '    pip: installing %s packages\n' "$((${#words[@]} - 3))"
                ;;
        esac
    done
}

# fill_from_requirements FILE PIP_VERSION PYTHON: install the requirements; an empty PIP_VERSION keeps the existing pip.
fill_from_requirements() {
    if [[ -n $2 ]]; then
        quiet_pip "$3" install "pip==$2"
    fi
    quiet_pip "$3" install --requirement "$1"
}

# requirements_env NAME PYTHON FILE [PIP_VERSION]: print the path of the Python of a cached environment with these
# requirements.
requirements_env() {
    ensure_env "$1" "$2" "pip ${4:-} $(<"$3")" fill_from_requirements "$3" "${4:-}"
}

# pack_tool: write a reproducible tar of the tool's files in this checkout to standard output.
pack_tool() (
    cd "$CHECKOUT" || exit
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go-w --exclude=__pycache__ \
        --exclude='*.so' .packaging pyproject.toml README* LICENSE* CHANGELOG.md layer_minimizer
)

# fill_with_tool EXTRAS PYTHON: install the tool, with extras like "[uv]" or an empty text, from this checkout.
fill_with_tool() {
    quiet_pip "$2" install "$CHECKOUT$1"
}

# find_tool [native]: set the array TOOL to the tool's command; install it from this checkout unless MINIMIZE is set. With
# "native", end the run if there is no C compiler to build its native parts.
find_tool() {
    local python sources native=without
    if [[ -n ${MINIMIZE:-} ]]; then
        if command -v -- "$MINIMIZE" >/dev/null; then
            TOOL=("$MINIMIZE")
        else
            read -r -a TOOL <<<"$MINIMIZE" # a command with arguments
        fi
        need_packages "" ""
        return
    fi
    python=$(require_python)
    need_packages "$python" "${1:-}"
    if [[ ${LAYER_MINIMIZER_NATIVE:-} != off ]] && can_compile "$python"; then
        native=with # another environment than the one that was made when there was no compiler
    fi
    sources=$(pack_tool | sha256sum)
    python=$(
        [[ $native == with ]] || export LAYER_MINIMIZER_NATIVE=off # the installation would end with an error
        ensure_env tool "$python" "$sources $native native parts" fill_with_tool ''
    )
    TOOL=("$(dirname "$python")/minimize")
}

# need_packages PYTHON NATIVE: install what PYTHON, unless it is empty, lacks for the tool, and strace. If that is not
# possible, say how to install it, and end the run if the tool cannot be installed, or, if NATIVE is not empty, only without
# its native parts.
need_packages() {
    local python=$1 native=$2 venv='' missing=() reasons=()
    if [[ -n $python ]]; then
        venv=$(lacks_venv "$python")
        if [[ -n $venv ]]; then
            missing+=("$venv")
            reasons+=("$python cannot create virtual environments")
        fi
        if ! can_compile "$python"; then
            missing+=(gcc libc6-dev)
            reasons+=("without a C compiler and the C library's headers, shared libraries are shipped whole")
        fi
    fi
    if ! command -v strace >/dev/null; then
        missing+=(strace)
        reasons+=("without strace, files that only C code opens are not seen")
    fi
    if ((${#missing[@]} == 0)) || apt_install "${missing[@]}"; then
        return
    fi
    reasons=("${reasons[@]/#/$'\n'  * }" $'\n'"To install what is missing:"$'\n'"    $(how_to_install "${missing[@]}")")
    if [[ -n $venv ]] || { [[ -n $native && -n $python ]] && ! can_compile "$python"; }; then
        die 3 "this needs more than is installed:$(printf '%s' "${reasons[@]}")"
    fi
    say "continuing, although some is not installed:$(printf '%s' "${reasons[@]}")"
}

# train_once WORK PYTHON TRAIN_FILE [FILE...]: copy into the work folder what TRAIN_FILE writes. It is run once for an
# environment and the contents of the files; what it has written stays in the cache, for all checkouts.
train_once() {
    local work=$1 python=$2 stamp trained lock
    shift 2
    stamp=$({ echo "$python" && cat "$@"; } | sha256sum)
    trained=$CACHE/trained-${stamp:0:12}
    exec {lock}>"$trained.lock"
    flock "$lock"
    if [[ -d $trained ]]; then
        say "using the trained model in $trained"
    else
        say "training the model"
        rm -rf "$trained.new"
        env -u PYTHONHOME -u PYTHONPATH PYTHONDONTWRITEBYTECODE=1 "$python" "$1" "$trained.new" >&2
        mv "$trained.new" "$trained"
    fi
    exec {lock}>&-
    cp -R -p "$trained/." "$work/"
}

# stage FOLDER FILE...: replace the folder by one with copies of these files. The tool runs the entry in a copy of the
# entry's folder, so the folder should contain only files of the task.
stage() {
    local folder=$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$@" "$folder/"
}

# has_option OPTION ARGUMENT...: return whether the option is among the arguments, as "--a b" or "--a=b".
has_option() {
    local option=$1 argument
    shift
    for argument in "$@"; do
        if [[ $argument == "$option" || $argument == "$option="* ]]; then
            return 0
        fi
    done
    return 1
}

# last_value OPTION ARGUMENT...: print the effective value of the option: the last one.
last_value() {
    local option=$1 value=
    shift
    while (($#)); do
        case $1 in
            "$option") value=${2:-} ;;
            "$option="*) value=${1#*=} ;;
        esac
        shift
    done
    printf '%s\n' "$value"
}

# run_tool WORK ARGUMENT...: run the tool for a layer and a report in the work folder (arguments can name other files),
# print which files it has written, the report's page last, and return its exit code.
run_tool() {
    local work=$1 status=0 file written
    shift
    set -- --output "$work/layer.zip" --report-json "$work/report.json" --report "$work" "$@"
    written=("$(last_value --output "$@")" "$(last_value --function-zip "$@")" "$(last_value --report-json "$@")"
        "$(last_value --report "$@")/report.html")
    for file in "${written[@]}"; do
        if [[ $file == "$work/"* ]]; then
            rm -f "$file" # so that existing files are from this run
        fi
    done
    "${TOOL[@]}" "$@" || status=$?
    for file in "${written[@]}"; do
        if [[ -f $file ]]; then
            say "wrote $file ($(stat --format=%s "$file") bytes)"
        fi
    done
    if ((status)); then
        say "the tool ended with exit code $status"
    fi
    return "$status"
}
