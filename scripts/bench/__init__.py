"""Measures the daemon beside nginx, httpx2 and the bare upstream; scripts/bench/run.py is the command."""
