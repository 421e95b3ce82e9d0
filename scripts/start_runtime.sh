#!/usr/bin/env bash
# Start the daemon in the background, in place of one that runs. Returns when it answers.
# Reads VASTAR_SOCKET_PATH and VASTAR_LOG_FILE.
set -euo pipefail
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
no_arguments "$@"

log="${VASTAR_LOG_FILE:-/tmp/vastar-runtime.log}"

fail() {
    echo "❌ Failed to start runtime"
    if [[ -n ${1:-} ]]; then
        echo "$1"
    fi
    exit 1
}

find_runtime || fail
said="$("$RUNTIME" clean --log-file "$log" 2>&1)" || fail "$said"
if ! said="$("$RUNTIME" start 2>&1)"; then
    # The cleaning removed the log of earlier runs: what is there now is this start's.
    if [[ -s $log && -r $log && ! -L $log ]]; then
        said+=$'\n'"$log:"$'\n'"$(tail -n 50 "$log")"
    fi
    fail "$said"
fi
echo "✅ Runtime started (PID: $(sed -n 's/^ *PID: //p' <<<"$said"))"
echo "   Socket: $(sed -n 's/^ *Socket: //p' <<<"$said")"
