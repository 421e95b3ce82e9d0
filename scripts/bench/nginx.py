"""nginx: the native yardstick, a relay as small as a relay gets; and, as a second one, the upstream with TLS."""

from __future__ import annotations

import os
import shutil
import socket
import string
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import trustme

from bench.errors import BenchError
from bench.processes import Processes, free_port

HOW_TO_INSTALL = "nginx is not installed; apt-get install nginx-light"
START_PATIENCE_S = 10.0
_TEMPLATES = Path(__file__).resolve().parent / "native"


def find_nginx() -> str | None:
    """Debian has it in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def start_tls_upstream(processes: Processes, nginx: str) -> tuple[dict[str, int], Path]:
    """An upstream whose certificate is from an authority of its own.

    Returns:
        The ports, ``tls_kept`` and ``tls_new`` (which ends each connection after one answer); the authority's
        certificate.
    """
    authority = trustme.CA()
    trusted = processes.directory / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(processes.directory / "tls.pem")
    ports = {"tls_kept": free_port(), "tls_new": free_port()}
    _start(processes, nginx, "nginx-tls", ports["tls_kept"], {f"{name}_port": port for name, port in ports.items()})
    return ports, trusted


def start_relay(
    processes: Processes, nginx: str, upstream_port: int, tls_ports: dict[str, int], trusted: Path
) -> tuple[int, subprocess.Popen[bytes]]:
    """The relay: its port and its process."""
    port = free_port()
    values: dict[str, object] = {"listen_port": port, "upstream_port": upstream_port, "trusted": trusted}
    values |= {f"{name}_port": tls_port for name, tls_port in tls_ports.items()}
    return port, _start(processes, nginx, "nginx-relay", port, values)


def _start(
    processes: Processes, nginx: str, name: str, listens_on: int, values: Mapping[str, object]
) -> subprocess.Popen[bytes]:
    prefix = processes.directory / name
    prefix.mkdir()
    template = string.Template((_TEMPLATES / f"{name}.conf").read_text())
    # Workers of root's nginx would be "nobody", who may not write below a directory of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = prefix / "nginx.conf"
    configuration.write_text(template.substitute(values, user=user, directory=processes.directory))
    process = processes.start(name, [nginx, "-e", "stderr", "-p", prefix, "-c", configuration])
    _wait_for(listens_on, processes, name)
    return process


def _wait_for(port: int, processes: Processes, name: str) -> None:
    give_up_at = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < give_up_at:
        processes.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise BenchError(f"{name} did not listen within {START_PATIENCE_S:.0f} s")
