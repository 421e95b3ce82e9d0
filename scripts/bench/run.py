#!/usr/bin/env python3
"""Measure the daemon: see --help. Needs the development requirements (scripts/test.sh makes the environment)."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder is the package ``bench``

from bench.command import main  # noqa: E402 - found through the path above

main()
