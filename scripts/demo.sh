#!/usr/bin/env bash
# Everything from a fresh clone to a chat answer: virtual environment, installation, demo.
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"

setup_venv runtime
exec "$VENV/bin/vastar-runtime" demo "$@"
