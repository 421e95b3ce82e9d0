"""Fixtures of the tests that run a real daemon."""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

# The helpers of the other folders are used here too.
for folder in ("trio", "wire"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))

from daemon_process import DaemonProcess, daemon  # noqa: E402 - found through the path above


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The certificate authority that the shared daemon trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """An upstream's TLS that the shared daemon accepts for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def running(authority: trustme.CA) -> Iterator[DaemonProcess]:
    """A daemon that the tests of a worker share: whatever one of them does to it, the next one is answered."""
    with (
        authority.cert_pem.tempfile() as trusted,
        daemon(variables={"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "0", "SSL_CERT_FILE": trusted}) as running,
    ):
        yield running
        assert running.stop() == 0, running.log
        assert "internal error" not in running.log


@pytest.fixture
async def client(running: DaemonProcess):
    """A connection to the shared daemon."""
    async with running.connect() as client:
        yield client
