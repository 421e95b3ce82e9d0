"""A daemon whose files lie in a folder of an old home, named in Latin-1; and one without a home."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_place import Place

FOLDER = b"J\xf6rg"
SHOWN = "J\\udcf6rg"
BUDGET = '[policy.egress]\nprivate = "deny"\n[[budget]]\nname = "monthly"\nper = "month"\ntokens = 7\n'


@pytest.fixture
def place() -> Iterator[Place]:
    parent = tempfile.mkdtemp(prefix="v-", dir="/tmp")
    directory = Path(os.fsdecode(os.path.join(os.fsencode(parent), FOLDER)))
    directory.mkdir()
    place = Place(directory)
    (directory / "runtime.toml").write_text(BUDGET)
    yield place
    place.run("stop")
    place.close()
    shutil.rmtree(parent, ignore_errors=True)


def test_it_starts_tells_of_itself_and_keeps_its_file_in_a_restart(place: Place) -> None:
    del place.environ["VASTAR_CONFIG"]
    place.environ |= {"HOME": "", "XDG_STATE_HOME": "", "STATE_DIRECTORY": ""}
    file = place.directory / "runtime.toml"
    started = place.run("start", "--config", str(file), "--workers", "2")
    assert started.returncode == 0, started.stderr
    reason = "neither HOME nor XDG_STATE_HOME is set"
    assert f"Budgets will not survive a restart: usage is not kept ({reason})" in started.stdout
    assert f"/{SHOWN}/runtime.toml" in started.stdout

    (place.directory / "runtime.toml").write_text(BUDGET.replace("7", "8"))
    reloaded = json.loads(place.run("reload", "--json").stdout)
    assert (reloaded["mistakes"], Path(reloaded["file"]).parent.name) == ([], SHOWN)

    restarted = json.loads(place.run("restart", "--json").stdout)  # in one process now
    assert restarted["started"] is True
    told = json.loads(place.run("status", "--json").stdout)["statistics"]
    assert told["config_file"] == f"{place.directory.parent}/{SHOWN}/runtime.toml"
    assert told["usage_not_kept"] == reason
    status = place.run("status").stdout
    assert f"   Usage: not kept: {reason}\n" in status
    assert "changed since" not in status
    assert "gone since" not in status

    stopped = place.run("stop", PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert "internal error" not in place.log.read_text()
