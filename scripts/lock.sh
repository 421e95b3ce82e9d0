#!/usr/bin/env bash
# Write the lock files anew from pyproject.toml: names, versions and hashes for every platform, no host.
# Arguments go to uv, for example: scripts/lock.sh --upgrade
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
about "$@"

setup_venv dev
cd "$ROOT"
lock() {
    # Extras stay: pip takes "coverage[toml]" for a package of its own that the lock does not pin, and refuses to install
    # as soon as there is a newer release of it.
    # setuptools builds this project; with --no-build-isolation it is an installed package like the others.
    echo 'setuptools>=77' | "$VENV/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-strip-extras --no-emit-index-url --no-header --no-annotate "$@" pyproject.toml -
}
lock --output-file scripts/requirements.lock "$@"
lock --output-file scripts/requirements-dev.lock --extra dev --constraint scripts/requirements.lock "$@"
