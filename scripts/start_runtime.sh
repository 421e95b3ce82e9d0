#!/usr/bin/env bash
# Start the daemon in the background, in place of one that runs. Returns when it answers.
# Reads VASTAR_SOCKET_PATH and VASTAR_LOG_FILE.
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"

log="${VASTAR_LOG_FILE:-/tmp/vastar-runtime.log}"

fail() {
    echo "❌ Failed to start runtime"
    if [[ -n ${1:-} ]]; then
        echo "$1"
    fi
    if [[ -f $log && ! -L $log ]]; then
        echo "$log:"
        tail -n 50 "$log"
    fi
    exit 1
}

find_runtime || fail
said="$("$RUNTIME" clean 2>&1)" || fail "$said"
said="$("$RUNTIME" start 2>&1)" || fail "$said"
echo "✅ Runtime started (PID: $(sed -n 's/^ *PID: //p' <<<"$said"))"
echo "   Socket: $(sed -n 's/^ *Socket: //p' <<<"$said")"
