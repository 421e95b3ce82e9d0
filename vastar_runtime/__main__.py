"""``python -m vastar_runtime``: the command line."""

from vastar_runtime.cli import main

main()
