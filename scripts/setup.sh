# Sourced by the other scripts: sets ROOT, and makes ROOT/.venv when it is missing or stale.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
VENV="$ROOT/.venv"

# about "$@": with -h or --help, prints the calling script's header instead of running it.
about() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit 0
    fi
}

# no_arguments "$@": for scripts that take none, so that a mistyped option does not run them.
no_arguments() {
    about "$@"
    if (($#)); then
        echo "Error: $(basename "$0") takes no arguments; see --help" >&2
        exit 2
    fi
}

# find_python: prints a Python of version 3.11 or later that can make virtual environments.
find_python() {
    local name without_venv=""
    for name in python3 python3.13 python3.12 python3.11; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        # Debian ships ensurepip in a package of its own; without it, venv leaves half an environment behind.
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$name"
            return
        fi
        without_venv="$name"
    done
    if [[ -n $without_venv ]]; then
        echo "Error: $without_venv cannot make virtual environments; run: apt-get install python3-venv" >&2
    else
        echo "Error: Python 3.11 or later is needed and was not found; on Debian: apt-get install python3 python3-venv" >&2
    fi
    return 1
}

# setup_venv runtime|dev: afterwards $VENV has what the lock file says, and this project.
setup_venv() {
    local kind="$1" lock="$ROOT/scripts/requirements.lock" stamp="$VENV/.vastar-setup" wanted python
    [[ $kind == dev ]] && lock="$ROOT/scripts/requirements-dev.lock"
    if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python="$(find_python)" || return 1
        echo "Making a virtual environment in $VENV" >&2
        "$python" -m venv --clear "$VENV" || return 1
    fi
    # The path is part of it: an installation in a tree that has been moved points to where it was.
    wanted="$(cd "$ROOT" && { echo "$ROOT"; cat pyproject.toml scripts/requirements*.lock; } |
        "$VENV/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
    # The development lock holds everything that the other one does.
    if [[ -f $stamp ]] && grep -qxE "($kind|dev) $wanted" "$stamp"; then
        return
    fi
    echo "Installing into $VENV; this takes a moment" >&2
    rm -f "$stamp"
    # One chain: a caller that tests the result of a function switches "set -e" off in it.
    {
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null
    } &&
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" &&
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            --no-deps --no-build-isolation -e "$ROOT" &&
        echo "$kind $wanted" >"$stamp"
}

# find_runtime: sets RUNTIME, the command that is vastar-runtime: the one on PATH (an active environment's comes first
# there), else that of $VENV.
find_runtime() {
    if RUNTIME="$(command -v vastar-runtime)"; then
        return
    fi
    setup_venv runtime || return 1
    RUNTIME="$VENV/bin/vastar-runtime"
}
