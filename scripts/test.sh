#!/usr/bin/env bash
# Every check, from a fresh clone: virtual environment, installation, linters, types, generated code, tests, coverage.
# Arguments go to pytest, for example: scripts/test.sh -k probe tests/e2e
# With arguments the coverage of the protocol and server rooms is not judged, since not everything ran.
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
about "$@"

step() { printf '\n== %s\n' "$*"; }

setup_venv dev
cd "$ROOT"
# Tests and the programs that they start find this environment's commands, and nothing of an outer one.
export PATH="$VENV/bin:$PATH"
unset PYTHONPATH PYTHONHOME
# Hundreds of processes are started: without bytecode on disk each would compile all of the source anew.
unset PYTHONDONTWRITEBYTECODE
python="$VENV/bin/python"

step ruff
"$python" -m ruff check
"$python" -m ruff format --check
step mypy
"$python" -m mypy
step generated code
"$python" scripts/generate_schema.py --check
"$python" scripts/generate_config_reference.py --check
"$python" scripts/generate_command_reference.py --check
step guides
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
# Not --quiet: it would keep warnings from being counted.
"$python" -m mkdocs build --strict --site-dir "$site"
step pytest
# One more than there are cores: many of the tests wait for processes of theirs. Who has nothing left to do takes tests
# from the others: the slow ones stand together.
"$python" -m pytest -n "$(($(nproc) + 1))" --dist worksteal --cov --cov-report=term "$@"
if (($# == 0)); then
    step "coverage of wire, http and server"
    "$python" -m coverage report --fail-under=90 \
        --include='connector_sdk/wire/*,vastar_runtime/http/*,vastar_runtime/server/*' --omit='*/_generated/*'
fi
