"""Files that the system denies to this user: each is told with its owner, its mode and a way out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_books import batch

from vastar_runtime.config.file import read_file
from vastar_runtime.config.permissions import denied, user_name
from vastar_runtime.errors import ConfigError
from vastar_runtime.metering.store import UsageFileError, UsageStore

ROOT, NOBODY = 0, 65534
pytestmark = pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of this user, who is not root."""
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(directory)
        finally:
            os.seteuid(ROOT)


def of_root(path: Path, mode: int) -> None:
    os.seteuid(ROOT)
    os.chown(path, ROOT, ROOT)
    path.chmod(mode)
    os.seteuid(NOBODY)


def test_a_configuration_that_may_not_be_read(place: Path) -> None:
    file, me = place / "runtime.toml", user_name(NOBODY)
    file.touch(0o000)
    another = "or choose another with --config or VASTAR_CONFIG"

    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            read_file(str(file))
        return str(caught.value).removeprefix(f"cannot read {file}: Permission denied: ")

    assert refusal() == f"it belongs to {me}, mode 0000; let its owner in: chmod u+r {file}, {another}"
    of_root(file, 0o600)
    assert refusal() == f"it belongs to root (uid 0), mode 0600; let {me} read it, {another}"
    of_root(place, 0o700)
    assert refusal() == f"the directory {place} belongs to root (uid 0), mode 0700; let {me} enter it, {another}"


def test_a_usage_file_that_may_not_be_opened(place: Path) -> None:
    file, me = place / "usage.db", user_name(NOBODY)
    another = "or choose another in [usage] file"
    store = UsageStore(str(file))
    store.add(batch("a"))
    store.close()

    def refusals() -> set[str]:
        told = set()
        for use in (lambda: store.add(batch("a")), store.tenants):
            with pytest.raises(UsageFileError) as caught:
                use()
            store.close()
            told.add(str(caught.value).removeprefix(f"the usage file {file} cannot be used: "))
        return told

    file.chmod(0o000)
    way_out = f"let its owner in: chmod u+rw {file}"
    assert refusals() == {f"it may not be opened: it belongs to {me}, mode 0000; {way_out}, {another}"}
    of_root(file, 0o600)
    way_out = f"let {me} read and write it"
    assert refusals() == {f"it may not be opened: it belongs to root (uid 0), mode 0600; {way_out}, {another}"}
    of_root(place, 0o700)
    directory = f"the directory {place} belongs to root (uid 0), mode 0700"
    assert refusals() == {f"Permission denied: {directory}; let {me} enter it, {another}"}


def test_a_file_that_cannot_be_made_is_its_directorys_fault(place: Path) -> None:
    place.chmod(0o555)
    found = denied(str(place / "vastar" / "usage.db"), os.R_OK | os.W_OK)
    assert found == (
        f"the directory {place} belongs to {user_name(NOBODY)}, mode 0555",
        f"let its owner in: chmod u+wx {place}",
    )
