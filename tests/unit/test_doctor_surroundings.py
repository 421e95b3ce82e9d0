"""What the doctor says of proxies, certificates, and what the daemon writes."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest
import trustme
from doctor_circumstances import one, seen, told

from vastar_runtime.cli.doctor_checks import tls
from vastar_runtime.cli.doctor_checks.configuration import check_configuration
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.kept_files import check_log, check_usage, open_files_limit
from vastar_runtime.cli.doctor_checks.other_daemons import Daemon, other_daemons
from vastar_runtime.cli.doctor_checks.proxies import check_proxies, check_proxies_answer

# --- proxies ---


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [("proxies", State.OK, None)]),
        ({"HTTP_PROXY": "socks5://u:s3cr3t@p:1"}, [("variable HTTP_PROXY", State.PROBLEM, "unset HTTP_PROXY")]),
        ({"https_proxy": "http://u:s3cr3t@p:x"}, [("variable https_proxy", State.PROBLEM, "unset https_proxy")]),
        (
            {"http_proxy": "p:1", "HTTP_PROXY": "u:s3cr3t@q:1", "NO_PROXY": "localhost,127.0.0.1"},
            [("variable http_proxy", State.WARNING, 'export HTTP_PROXY="$http_proxy"')],
        ),
        (
            {"ALL_PROXY": "u:s3cr3t@p:1"},
            [("proxies", State.WARNING, 'export NO_PROXY="${NO_PROXY:+$NO_PROXY,}localhost,127.0.0.1"')],
        ),
        (
            {"ALL_PROXY": "p:1", "no_proxy": "localhost,.local"},
            [("proxies", State.WARNING, 'export no_proxy="${no_proxy:+$no_proxy,}127.0.0.1"')],
        ),
        ({"ALL_PROXY": "p:1", "no_proxy": "localhost,127.0.0.0/8"}, [("proxies", State.OK, None)]),
    ],
)
def test_proxy_variables(tmp_path: Path, variables: dict[str, str], expected: list[object]) -> None:
    findings = list(check_proxies(seen(tmp_path, variables)))
    assert [(f.name, f.state, f.command) for f in findings] == expected
    assert "s3cr3t" not in str(findings)


def test_a_proxy_that_does_not_answer_is_told_apart_from_one_that_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as answering:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        up = answering.getsockname()[1]
        environ = {"HTTP_PROXY": f"u:s3cr3t@127.0.0.1:{port}", "https_proxy": f"http://127.0.0.1:{up}"}
        findings = list(check_proxies_answer(seen(tmp_path, environ)))
    assert [(f.name, *told(f), f.command) for f in findings] == [
        (
            f"proxy 127.0.0.1:{port}",
            State.PROBLEM,
            "it does not answer (Connection refused); HTTP_PROXY names it",
            "unset HTTP_PROXY",
        ),
        (f"proxy 127.0.0.1:{up}", State.OK, "accepts connections", None),
    ]
    assert "NO_PROXY=localhost,127.0.0.1" in findings[0].remedy


# --- TLS ---


def test_a_store_that_is_missing_empty_expired_or_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, none = trustme.CA(), tmp_path / "no-directory"
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    good = tls.trust_store(str(file), str(none), is_chosen=True)
    assert told(good) == (State.OK, f"1 authorities in SSL_CERT_FILE, {file}, 0 in {none}")
    file.write_text("not a certificate\n")
    empty = tls.trust_store(str(file), str(none), is_chosen=True)
    assert told(empty) == (
        State.PROBLEM,
        f"SSL_CERT_FILE: {file} cannot be used: it holds no certificate: every https upstream is rejected",
    )
    assert empty.command == "unset SSL_CERT_FILE"
    nothing = tls.trust_store(str(none), str(none), is_chosen=False)
    assert nothing.state is State.PROBLEM
    assert nothing.command == "apt-get install --reinstall ca-certificates"
    missing = one(tls.check_trust_store_here(seen(tmp_path, {"SSL_CERT_FILE": "/nowhere.pem"})))
    assert (missing.state, missing.command) == (State.PROBLEM, "unset SSL_CERT_FILE")
    authority.cert_pem.write_to_path(file)
    relative = one(tls.check_trust_store_here(seen(tmp_path, {"SSL_CERT_FILE": os.path.relpath(file)})))
    assert (relative.state, relative.command) == (State.PROBLEM, 'export SSL_CERT_FILE="$PWD/$SSL_CERT_FILE"')
    monkeypatch.setattr(tls.time, "time", lambda: 1e12)
    assert "have expired" in tls.trust_store(str(file), str(none), is_chosen=True).found
    monkeypatch.setattr(tls.time, "time", lambda: 0)
    early = tls.trust_store(str(file), str(none), is_chosen=True)
    assert early.state is State.PROBLEM
    assert "all of its 1 certificate are not valid yet (before " in early.found


def test_a_directory_whose_certificates_openssl_does_not_find(tmp_path: Path) -> None:
    directory, file = tmp_path / "certs", tmp_path / "ca.pem"
    directory.mkdir()
    trustme.CA().cert_pem.write_to_path(file)

    def judged(trusted: Path) -> Finding:
        return tls.trust_store(str(trusted), str(directory), is_chosen=True, is_directory_chosen=True)

    assert judged(file).state is State.OK  # an empty one may be meant: nothing is trusted but the file
    certificate = directory / "good.pem"
    trustme.CA().cert_pem.write_to_path(certificate)
    beside, alone = judged(file), judged(tmp_path / "none.pem")
    assert (beside.state, alone.state) == (State.WARNING, State.PROBLEM)
    assert f"SSL_CERT_DIR: nothing in {directory} has a name that OpenSSL looks for" in beside.found
    assert beside.command in (f"openssl rehash {directory}", None)
    certificate.rename(directory / "5ed36f99.0")
    assert judged(file).state is State.OK


def test_in_a_directory_that_is_gone_what_is_relative_is_told_and_no_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    here = seen(tmp_path, {"VASTAR_CONFIG": "c.toml", "VASTAR_LOG_FILE": "log", "NODE_EXTRA_CA_CERTS": "ca.pem"})
    finding = one(check_configuration(here))
    assert finding.state is State.PROBLEM
    assert finding.found.startswith("VASTAR_CONFIG: 'c.toml' is relative, and the working directory is gone")
    for check in (check_log, tls.check_trust_store_here):
        assert list(check(here))
    lacking = one(check_log(seen(tmp_path, {"VASTAR_LOG_FILE": "log"}, log_path=str(tmp_path / "no" / "log"))))
    assert lacking.state is State.PROBLEM


def test_a_store_that_only_other_programs_read(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    findings = list(tls.check_trust_store_here(seen(tmp_path, {"REQUESTS_CA_BUNDLE": str(file)})))
    assert (findings[-1].state, findings[-1].command) == (State.WARNING, 'export SSL_CERT_FILE="$REQUESTS_CA_BUNDLE"')


@pytest.mark.parametrize(
    ("unix_s", "state"), [(0, State.PROBLEM), (1.8e9, State.OK), (5e9, State.PROBLEM), (1e30, State.PROBLEM)]
)
def test_a_clock_that_cannot_be_right(unix_s: float, state: State) -> None:
    assert tls.clock(unix_s).state is state


# --- files ---


def test_a_log_that_cannot_be_written_and_the_directory_that_it_lacks(tmp_path: Path) -> None:
    missing = one(check_log(seen(tmp_path, log_path=str(tmp_path / "a b" / "log"))))
    assert (missing.state, missing.command) == (State.PROBLEM, f"mkdir -p '{tmp_path}/a b'")
    link = tmp_path / "link"
    link.symlink_to("/etc/hostname")
    linked = one(check_log(seen(tmp_path, log_path=str(link))))
    assert told(linked) == (State.PROBLEM, f"{link} is a symbolic link, not a file: start does not write to it")
    assert (linked.remedy, linked.command) == ("choose another with --log-file or VASTAR_LOG_FILE", None)
    chosen = one(check_log(seen(tmp_path, {"VASTAR_LOG_FILE": "/dev/null"}, log_path="/dev/null")))
    assert (chosen.state, chosen.command) == (State.PROBLEM, "unset VASTAR_LOG_FILE")
    (tmp_path / "log").touch()
    assert one(check_log(seen(tmp_path))).state is State.OK


def test_a_disk_that_is_full_or_nearly_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(tmp_path)
    for blocks, state, words in ((0, State.PROBLEM, "is full"), (1, State.WARNING, "has 0 MiB left")):
        values = list(free)
        values[1], values[4] = 4096, blocks
        monkeypatch.setattr(os, "statvfs", lambda _path, values=values: os.statvfs_result(values))
        for finding in (one(check_log(seen(tmp_path))), one(check_usage(seen(tmp_path)))):
            assert finding.state is state
            assert words in finding.found


def test_usage_where_its_directory_is_a_file_or_nobody_says_where(tmp_path: Path) -> None:
    assert (
        one(check_usage(seen(tmp_path))).found
        == f"{tmp_path}/.local/state/vastar/usage.db will be made when it is needed"
    )
    (tmp_path / ".local").touch()
    assert one(check_usage(seen(tmp_path))).state is State.PROBLEM
    assert one(check_usage(seen(tmp_path, {"HOME": ""}))).state is State.WARNING


def test_few_open_files() -> None:
    assert open_files_limit(1024).state is State.WARNING
    assert open_files_limit(4096).state is State.OK
    assert open_files_limit(resource.RLIM_INFINITY).found.endswith("may have any number")


# --- other daemons, and the environment of this one ---


def test_a_daemon_on_another_socket_is_named_with_what_to_type(tmp_path: Path) -> None:
    here = seen(tmp_path)
    assert list(other_daemons(here, [])) == []
    finding = one(other_daemons(here, [Daemon(7, "/run/a b/s", 0)]))
    assert finding.state is State.WARNING
    assert "PID 7 of root (uid 0) on /run/a b/s" in finding.found
    assert finding.command == "export VASTAR_SOCKET_PATH='/run/a b/s'"


def test_a_fifo_is_looked_at_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    path = str(tmp_path / "fifo")
    assert (
        one(check_log(seen(tmp_path, log_path=path))).found
        == f"{path} is a FIFO, not a file: start does not write to it"
    )
    assert one(tls.check_trust_store_here(seen(tmp_path, {"SSL_CERT_FILE": path}))).state is State.PROBLEM
    finding = one(check_configuration(seen(tmp_path, {"VASTAR_CONFIG": path})))
    assert told(finding) == (State.PROBLEM, f"{path} is no regular file")
