"""``python -m vastar_runtime``: the command line; and the console scripts, each behind a look at what is installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_OURS = frozenset({"vastar_runtime", "connector_sdk"})


def main() -> None:
    """Console script ``vastar-runtime``."""
    with _installed():
        from vastar_runtime.cli import main

        main()


def run_daemon() -> None:
    """Console script ``vastar-connector-runtime``."""
    with _installed():
        from vastar_runtime.cli import run_daemon

        run_daemon()


@contextmanager
def _installed() -> Iterator[None]:
    """
    Raises:
        SystemExit: a package that is needed is missing, or broken; one line has said which.
    """
    try:
        yield
    except (ImportError, AttributeError) as error:
        package = _package_of(error)
        if package is None:
            raise
        reason = " ".join(str(error).split())
        remedy = "install it again: pip install --force-reinstall vastar-runtime"
        sys.exit(f"Error: the Python package {package} is missing or broken ({reason}); {remedy}")


def _package_of(error: ImportError | AttributeError) -> str | None:
    """The one that lacks something; None: none that comes with ours, this is a fault of the program."""
    if isinstance(error, ImportError):
        module = error.name or ""
    else:  # what an installation that broke off has left: a directory, which Python takes for a package without a file
        found = error.obj
        module = found.__name__ if isinstance(found, ModuleType) and getattr(found, "__file__", None) is None else ""
    package = module.partition(".")[0]
    return None if package in _OURS | sys.stdlib_module_names | {""} else package


if __name__ == "__main__":
    main()
