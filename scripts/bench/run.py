#!/usr/bin/env python3
"""Measure the daemon: see --help. Needs the development requirements (scripts/test.sh makes the environment)."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder is the package ``bench``

try:
    from bench.command import main
except ModuleNotFoundError as error:
    print(f"Error: {error}; the bench needs the development packages: scripts/test.sh installs them", file=sys.stderr)
    sys.exit(1)

main()
