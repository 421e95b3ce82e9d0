"""What the doctor says to a user whom modes keep out: whose file it is, and what lets the user in."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from click.testing import CliRunner
from doctor_circumstances import HEALTH, WELL, daemon, one, told
from doctor_circumstances import seen as look

from vastar_runtime.cli import _group
from vastar_runtime.cli.asking import Refused
from vastar_runtime.cli.doctor_checks import circumstances, permission, workshop
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances
from vastar_runtime.cli.doctor_checks.configuration import check_configuration, check_configuration_access
from vastar_runtime.cli.doctor_checks.credential_files import notes
from vastar_runtime.cli.doctor_checks.credential_sources import check_credential_sources
from vastar_runtime.cli.doctor_checks.daemon import check_daemon, check_daemon_statistics
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.kept_files import check_log
from vastar_runtime.cli.doctor_checks.processes import Manner
from vastar_runtime.cli.doctor_checks.workshop import Workshop
from vastar_runtime.cli.probe import Found
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.config import examine
from vastar_runtime.config.permissions import Obstacle, user_name
from vastar_runtime.errors import StartupError

Result = TypeVar("Result")
NOBODY = 65534
NAME = user_name(NOBODY)
CREDENTIAL = '[[credential]]\nname = "{0}"\norigins = ["https://{0}.example"]\n{1} = {2}\n'
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and be root again")


def as_nobody(do: Callable[[], Result]) -> Result:
    """What comes of it while all of this process is that user's, for whom modes count, as they do not for root."""
    do()  # as root: Python itself may lie where nobody else comes, and loads some of its modules when they are needed
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        return do()
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def made(path: Path, mode: int, uid: int = NOBODY, text: str = "s3cr3t") -> Path:
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def credentials(place: Path, *sources: Path, kind: str = "file") -> Path:
    written = [f'"{path}"' if kind == "file" else f'["{path}"]' for path in sources]
    return made(
        place / "c.toml",
        0o644,
        text="".join(CREDENTIAL.format(f"c{at}", kind, source) for at, source in enumerate(written)),
    )


def said(findings: Iterator[Finding]) -> list[tuple[str, str, str | None]]:
    return [(finding.found, finding.remedy, finding.command) for finding in findings if finding.state is State.PROBLEM]


# --- credentials ---


@needs_root
def test_a_key_that_may_not_be_read_is_not_to_be_written_anew(place: Path) -> None:
    (place / "roots").mkdir(mode=0o700)
    (place / "mine").mkdir(mode=0o600)
    hidden, below = made(place / "roots" / "key", 0o644), made(place / "mine" / "key", 0o600)
    os.chown(place / "mine", NOBODY, NOBODY)
    foreign, own, missing = made(place / "foreign", 0o600, 0), made(place / "own key", 0), place / "missing"
    linked = place / "linked"
    linked.symlink_to(hidden)
    file = credentials(place, hidden, below, foreign, own, linked, missing)
    found = as_nobody(lambda: said(check_credential_sources(look(place, {"VASTAR_CONFIG": str(file)}))))
    command = ["config", "check", "--config", str(file)]
    check = as_nobody(lambda: CliRunner().invoke(_group, command))
    checked = as_nobody(lambda: CliRunner().invoke(_group, [*command, "--json"]))
    closed = f"the directory {place}/roots belongs to root (uid 0), mode 0700"
    search = f"its owner, or root, can let {NAME} search that directory (chmod, setfacl); or name a file elsewhere"
    assert found == [
        (f"{hidden} may not be reached by {NAME}: {closed}", search, None),
        (
            f"{below} may not be reached by {NAME}: the directory {place}/mine belongs to {NAME}, mode 0600",
            "",
            f"chmod u+x {place}/mine",
        ),
        (
            f"{foreign} may not be read by {NAME}: it belongs to root (uid 0), mode 0600",
            "its owner, or root, can give it to the daemon's user, with mode 0600",
            None,
        ),
        (f"{own} may not be read by {NAME}: it belongs to {NAME}, mode 0000", "", f"chmod u+r '{own}'"),
        (f"{linked} may not be reached by {NAME}: {closed}", search, None),
        (f"{missing}: No such file or directory", "write the key into it; the daemon finds it by itself", None),
    ]
    # The same, where the file is checked, and it is valid all the same; what is missing may be on another machine.
    lines = [
        f"credential c{at}: {text}; {': '.join(filter(None, (advice, command)))}"
        for at, (text, advice, command) in enumerate(found[:-1])
    ]
    assert (check.exit_code, check.output.splitlines()) == (
        0,
        [f"{file} is valid: 18 settings, 0 scopes", *(f"Note: {line}" for line in lines)],
    )
    assert (checked.exit_code, json.loads(checked.output)["notes"]) == (0, lines)


def test_a_key_that_others_may_read_or_replace_is_told_by_config_check(place: Path) -> None:
    for name, mode in (("read", 0o644), ("replaced", 0o666), ("closed", 0o600)):
        (place / name).write_text("s3cr3t")
        (place / name).chmod(mode)
    file = place / "c.toml"
    file.write_text(
        "".join(CREDENTIAL.format(name, "file", f'"{place}/{name}"') for name in ("read", "replaced", "closed"))
    )
    done = CliRunner().invoke(_group, ["config", "check", "--config", str(file)])
    findings = list(check_credential_sources(look(place, {"VASTAR_CONFIG": str(file)})))
    assert [(f.name, f.state) for f in findings] == [
        ("credential read", State.WARNING),
        ("credential replaced", State.PROBLEM),
    ]
    assert (done.exit_code, done.output.splitlines()[1:]) == (
        0,
        [f"Note: {f.name}: {f.found}; {f.remedy}: {f.command}" for f in findings],
    )
    assert "s3cr3t" not in done.output
    every = examine({}, config_path=str(file)).settings.credentials
    assert notes(every * 15)[20:] == ["so it is with 10 more"]


@needs_root
def test_the_daemons_own_word_about_a_key_is_followed_by_what_mends_it(place: Path) -> None:
    own, foreign = made(place / "own", 0), made(place / "foreign", 0o640, 0)
    file = credentials(place, own, foreign)
    problems = [
        {"name": f"c{at}", "source": "file", "is_usable": not at, "problem": "Permission denied"} for at in (0, 1)
    ]
    stranger = Found(state=OnSocket.RUNNING, socket_path="/s", pid=os.getpid(), uid=NOBODY, health=HEALTH)
    here = daemon(
        told=WELL | {"credentials": problems}, found=stranger, examined=examine({}, config_path=str(file)), manner=None
    )

    def remedies(seen: Circumstances) -> list[tuple[str, str | None]]:
        findings = [f for f in check_daemon_statistics(seen) if f.name.startswith("credential")]
        return [(f.remedy, f.command) for f in findings]

    with pytest.MonkeyPatch.context() as patched:  # what root sees of the daemon of another user
        patched.setattr("vastar_runtime.cli.doctor_checks.permission.groups_of_process", lambda _: {NOBODY})
        let_in = ("", f"chmod u+r {own}")
        assert remedies(here) == [let_in, ("give it to the daemon's user, with mode 0600", None)]
        assert [(f.remedy, f.command) for f in check_credential_sources(here)] == remedies(here)
        patched.setattr("vastar_runtime.cli.doctor_checks.permission.groups_of_process", lambda _: {NOBODY, 0})
        again = "mend the file; the daemon reads it again by itself"
        assert remedies(here) == [let_in, (again, None)]
        patched.setattr("vastar_runtime.cli.doctor_checks.permission.groups_of_process", lambda _: None)
        assert remedies(here) == [(again, None)] * 2  # that cannot be told
        (place / "shut").mkdir(mode=0o700)
        below = credentials(place, made(place / "shut" / "key", 0o600))
        patched.setattr("vastar_runtime.cli.doctor_checks.permission.groups_of_process", lambda _: {NOBODY})
        shut = msgspec.structs.replace(here, examined=examine({}, config_path=str(below)))
        assert (
            f"the directory {place}/shut belongs to root (uid 0), mode 0700"
            in one(check_credential_sources(shut)).found
        )


@needs_root
def test_a_program_behind_a_closed_directory_is_not_misspelt(place: Path) -> None:
    (place / "roots").mkdir(mode=0o700)
    file = credentials(place, made(place / "roots" / "program", 0o755), kind="command")
    finding = as_nobody(lambda: list(check_credential_sources(look(place, {"VASTAR_CONFIG": str(file)}))))[0]
    assert f"{place}/roots belongs to root (uid 0), mode 0700" in finding.found
    assert "correct the command" not in finding.remedy


def test_what_opens_a_file_is_for_its_owner_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def way(owner: int, me: int, reader: int) -> tuple[str, str | None] | None:
        status = os.stat_result((stat.S_IFREG, 0, 0, 1, owner, owner, 0, 0, 0, 0))
        monkeypatch.setattr(permission, "obstacle", lambda *_: Obstacle("/a b", status, os.R_OK))
        monkeypatch.setattr(os, "geteuid", lambda: me)
        shut = permission.closed("/a b", permission.Reader(reader, set()), "do this")
        return shut and shut[1:]

    assert way(owner=4321, me=4321, reader=4321) == ("", "chmod u+r '/a b'")
    assert way(owner=4321, me=0, reader=4321) == ("", "chmod u+r '/a b'")
    assert way(owner=4322, me=0, reader=4321) == ("do this", None)
    assert way(owner=0, me=4321, reader=4321) == ("its owner, or root, can do this", None)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    assert permission.closed(f"{tmp_path}/file/key", permission.myself(), "") is None  # that is another mistake


# --- the configuration, and the socket's directory ---


@needs_root
def test_a_configuration_that_may_not_be_read_is_not_to_be_corrected(place: Path) -> None:
    file = made(place / "runtime.toml", 0, text="")

    def looked() -> tuple[list[tuple[str, str, str | None]], list[Finding]]:
        here = look(place, {"VASTAR_CONFIG": str(file)})
        running = msgspec.structs.replace(here, found=daemon().found)
        return said(check_configuration(here)), [
            f for seen in (here, running) for f in check_configuration_access(seen)
        ]

    found, of_mode = as_nobody(looked)
    assert found == [(f"{file} may not be read by {NAME}: it belongs to {NAME}, mode 0000", "", f"chmod u+r {file}")]
    assert of_mode == []
    # Root may read it; the daemon that goes by it is its owner's.
    theirs = Found(state=OnSocket.RUNNING, socket_path="/s", pid=7, uid=NOBODY, health=HEALTH)
    finding = one(check_configuration_access(daemon(found=theirs, examined=examine({}, config_path=str(file)))))
    assert (finding.state, finding.command) == (State.PROBLEM, f"chmod u+r {file}")
    made(file, 0o640, 0)
    [foreign] = as_nobody(lambda: list(check_configuration(look(place, {"VASTAR_CONFIG": str(file)}))))
    assert foreign.remedy == (
        f"its owner, or root, can let {NAME} read it, with a group and mode 0640; "
        "or choose another with --config or VASTAR_CONFIG"
    )
    assert foreign.command is None


@needs_root
def test_nobody_is_told_that_nobody_can_start_a_daemon(place: Path) -> None:
    for owner, remedy in (
        (NOBODY, "make the socket's directory writable first; then start one"),
        (0, "root (uid 0) can start one, whose the socket's directory is"),
    ):
        place.chmod(0o555)
        os.chown(place, owner, owner)
        finding = as_nobody(lambda: one(check_daemon(look(place, {"VASTAR_SOCKET_PATH": f"{place}/s"}))))
        assert (finding.state, finding.remedy, finding.command) == (State.WARNING, remedy, None)


# --- the umask ---


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def test_a_umask_that_shuts_the_owner_out_keeps_the_doctor_from_nothing() -> None:
    with umask(0o777), pytest.MonkeyPatch.context() as patched, Workshop() as shop:
        directory = shop.directory()
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        patched.setattr(workshop, "launch", lambda *_, **__: pytest.fail(str(os.umask(0o777))))
        with pytest.raises(pytest.fail.Exception, match=f"^{0o077}$"):
            shop.start(["simulator"], {}, 1)
        assert stat.S_IMODE(os.stat(f"{directory}/simulator.log").st_mode) == 0o600

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", "/its/path")

        patched.setattr(workshop, "launch", refused)
        with pytest.raises(StartupError, match=r"^cannot start a simulator: /its/path: Permission denied$"):
            shop.start(["simulator"], {}, 1)
        assert os.umask(0o777) == 0o777
    assert not os.path.exists(directory)


@needs_root
def test_a_log_that_its_owner_cannot_open_again(place: Path) -> None:
    for mode in (0o400, 0o200, 0):
        log = made(place / "log", mode)
        finding = as_nobody(lambda: one(check_log(look(place, log_path=f"{place}/log"))))
        assert (finding.state, finding.command) == (State.PROBLEM, f"chmod u+rw {log}")
        assert f"has mode {mode:04o}" in finding.found


# --- a mistake of the daemon's ---


def test_a_daemon_that_fails_to_tell_of_itself_has_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "the daemon on /s refuses: internal error of the runtime; its log has the details"

    def refuse(text: str) -> Circumstances:
        def ask(*_: object) -> None:
            raise Refused(text)

        monkeypatch.setattr(circumstances, "ask_runtime", ask)
        asked = daemon(manner=Manner(log="/l g"))
        return msgspec.structs.replace(asked, **circumstances._statistics(asked))

    finding = one(check_daemon_statistics(refuse(words)))
    assert told(finding) == (State.PROBLEM, f"it fails when it is asked how it stands: {words}")
    assert finding.command == "tail -n 40 '/l g'"
    unseen = msgspec.structs.replace(refuse(words), manner=None)
    assert one(check_daemon_statistics(unseen)).command is None
    forbidden = "the daemon on /s refuses: uid 1 may not ask the runtime about itself"
    assert told(one(check_daemon_statistics(refuse(forbidden)))) == (State.NOT_CHECKED, forbidden)
