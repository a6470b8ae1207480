#!/bin/sh
# Create .venv and install what a lock file says: `sh ops/setup.sh [requirements-dev.lock]`, in the checkout's folder.
# Does nothing when that is already there. Needs Python 3.11 or 3.12; PYTHON chooses one.
set -eu

lock=${1:-requirements.lock}
installed=.venv/installed

fail() {
    printf 'freshet: %s\n%s\n' "$1" "$2" >&2
    exit 1
}

suits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

# Not everything that is called python runs: version managers put placeholders on the PATH.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" && command -v "$PYTHON"
        return
    fi
    for name in python3 python3.11 python3.12 python; do
        old_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$old_ifs
            if [ -x "$folder/$name" ] && suits "$folder/$name"; then
                echo "$folder/$name"
                return
            fi
        done
        IFS=$old_ifs
    done
    return 1
}

# What is installed: from which folder (a virtual environment cannot be moved), by which lock.
state() {
    echo "$PWD $1 $(cksum <"$1") $(cksum <pyproject.toml)"
}

if [ -x .venv/bin/freshet ] && grep -qxF "$(state "$lock")" "$installed" 2>/dev/null; then
    exit 0
fi

if ! grep -qF "$PWD " "$installed" 2>/dev/null || ! suits .venv/bin/python; then
    python=$(find_python) || fail \
        "Python 3.11 or 3.12 with venv is needed, and was not found: looked at ${PYTHON:-every python on the PATH}." \
        "Install one (Debian and Ubuntu: apt install python3.11 python3.11-venv; macOS: brew install python@3.12), or name it: make up PYTHON=/path/to/python3.12"
    echo "Creating .venv with $python"
    "$python" -m venv --clear .venv || fail \
        "The virtual environment could not be created in $PWD/.venv." \
        "Check that the disk has room and the folder can be written (Debian and Ubuntu: is python3-venv installed?)."
fi

begin() {
    echo "$1"
    begun=$(date +%s)
}
tell_time() {
    echo "  took $(($(date +%s) - begun)) s"
}
pip() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-compile "$@" || fail \
        "The installation failed, see above." \
        "It needs the network (the package index, or the proxy or mirror that pip is configured for) and 1 GB on the disk. What is already there is kept: run the same command again."
}
pip_of_lock=.venv/pip.lock
begin "Installing $lock (once; about a minute)"
# The pip that comes with Python takes more than twice the time: the lock's own goes first.
awk '/^pip==/ { found = 1 } found { print } found && !/\\$/ { exit }' "$lock" >"$pip_of_lock"
pip --require-hashes -r "$pip_of_lock"
pip --require-hashes -r "$lock"
pip --quiet --no-deps --no-build-isolation -e . # still quieter: it warns of what every such installation is
tell_time
begin "Compiling the models (once; about a minute)"
.venv/bin/python -m online_models.warm_up || fail "The models could not be compiled, see above." "Is the folder writable?"
tell_time
{
    state requirements.lock # contained in the other
    state "$lock"
} >"$installed"
