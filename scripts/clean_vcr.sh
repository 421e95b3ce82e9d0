#!/usr/bin/env bash
# Stop the daemon on the socket (by force after 5 s) and remove its socket and log; says what it did.
# Reads VASTAR_SOCKET_PATH and VASTAR_LOG_FILE.
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
no_arguments "$@"

find_runtime
exec "$RUNTIME" clean --log-file "${VASTAR_LOG_FILE:-/tmp/vastar-runtime.log}"
