"""The certificates that the daemon trusts, and the clock that they are judged by."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import ssl
import time
from collections.abc import Iterator, Mapping

import msgspec

from vastar_runtime.cli.printing import counted
from vastar_runtime.config.quoting import shown_path
from vastar_runtime.errors import ConfigError
from vastar_runtime.http.dial import check_trust_store

from .circumstances import Circumstances
from .daemon_environment import NOT_FROM_HERE, STARTED_HERE, whose
from .finding import Finding, not_checked, ok, problem, warning

# Before this there was no such program; a machine whose clock says so has lost it.
RELEASED_UNIX_S = 1_735_689_600  # 2025-01-01
FAR_FUTURE_UNIX_S = 4_102_444_800  # 2100-01-01

# What other programs read, and the daemon does not.
_OTHERS_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
# What it names is trusted beside the system's store, not instead of it.
_ADDED_TO = ("NODE_EXTRA_CA_CERTS",)
# Nearly the same certificates as in the store that is read.
_OF_THE_SYSTEM = ("/etc/ssl/", "/etc/pki/", "/etc/ca-certificates/", "/usr/share/ca-certificates/", "/usr/lib/ssl/")
_A_WHOLE_STORE = 50
# How c_rehash names certificates, so that OpenSSL finds them by their subject.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+\Z")
_MOST_ENTRIES = 100_000


def check_trust_store_here(seen: Circumstances) -> Iterator[Finding]:
    """Which store there is, and whether it holds anything."""
    name, who = "TLS trust store", whose(seen)
    if who is None:
        yield not_checked(name, NOT_FROM_HERE)
        return
    try:
        check_trust_store(seen.environ)
    except ConfigError as error:
        variable = str(error).partition(":")[0]
        yield problem(name, f"{error}; {STARTED_HERE} does not start with it", command=f"unset {variable}")
        return
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = seen.environ.get(variable, "")
        if path and not os.path.isabs(path):
            yield problem(
                name,
                f"{variable}: {shown_path(path)} is relative, and a daemon that is started works in another directory",
                "write the whole path",
                f'export {variable}="$PWD/${variable}"',
            )
            return
    defaults = ssl.get_default_verify_paths()
    file = seen.environ.get("SSL_CERT_FILE") or defaults.openssl_cafile
    directory = seen.environ.get("SSL_CERT_DIR") or defaults.openssl_capath
    store = trust_store(
        file,
        directory,
        is_chosen=bool(seen.environ.get("SSL_CERT_FILE")),
        is_directory_chosen=bool(seen.environ.get("SSL_CERT_DIR")),
    )
    if seen.is_running and who == STARTED_HERE:
        store = msgspec.structs.replace(
            store, found=f"{store.found} (for {who}: the one that runs has other variables)"
        )
    yield store
    yield from _meant_for_others(seen.environ, file, directory)


def trust_store(file: str, directory: str, *, is_chosen: bool, is_directory_chosen: bool = False) -> Finding:
    """
    Args:
        file, directory: that OpenSSL reads; either may be missing.
        is_chosen: SSL_CERT_FILE names the file.
        is_directory_chosen: SSL_CERT_DIR names the directory.
    """
    name, (hashed, others) = "TLS trust store", _files_in(directory)
    in_file = 0
    if os.path.isfile(file):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            reason = _reason(error)
            advice = "correct it" if is_chosen else "make the system's store anew"
            command = "unset SSL_CERT_FILE" if is_chosen else _if_there("update-ca-certificates --fresh")
            rest = f"; {directory} has {hashed} beside it" if hashed else ": every https upstream is rejected"
            what = f"SSL_CERT_FILE: {shown_path(file)}" if is_chosen else shown_path(file)
            return problem(name, f"{what} cannot be used: {reason}{rest}", advice, command)
        in_file = context.cert_store_stats()["x509_ca"]
        certificates = context.get_ca_certs()
        fault = _fault_of_dates([(str(each["notBefore"]), str(each["notAfter"])) for each in certificates])
        if fault is not None:
            found = f"{shown_path(file)}: all of its {counted(in_file, 'certificate')} {fault}"
            return problem(name, found, "put the current ones into it", "unset SSL_CERT_FILE" if is_chosen else None)
    if is_directory_chosen and others and not hashed:
        found = (
            f"SSL_CERT_DIR: nothing in {shown_path(directory)} has a name that OpenSSL looks for, such as 5ed36f99.0; "
            + (f"{in_file} authorities in {shown_path(file)}" if in_file else "every https upstream is rejected")
        )
        command = _if_there(f"openssl rehash {shlex.quote(directory)}") if os.access(directory, os.W_OK) else None
        return (warning if in_file else problem)(
            name, found, "give its certificates such names" + ("" if command else ", with openssl rehash"), command
        )
    if not in_file and not hashed:
        return problem(
            name,
            f"neither {shown_path(file)} nor {shown_path(directory)} holds a certificate: every https upstream is "
            "rejected",
            "install the package ca-certificates, as root",
            _if_there("apt-get install --reinstall ca-certificates"),
        )
    by = "SSL_CERT_FILE, " if is_chosen else ""
    return ok(name, f"{in_file} authorities in {by}{shown_path(file)}, {hashed} in {shown_path(directory)}")


def check_clock(_seen: Circumstances) -> Iterator[Finding]:
    """Certificates are valid between two points in time."""
    yield clock(time.time())


def clock(unix_s: float) -> Finding:
    """
    Args:
        unix_s: what the clock says.
    """
    try:
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
    except (OverflowError, ValueError, OSError):
        shown = f"{unix_s:.0f} s after 1970"
    if RELEASED_UNIX_S <= unix_s < FAR_FUTURE_UNIX_S:
        return ok("clock", shown)
    found = f"it is wrong: {shown}; certificates are judged by it and rejected"
    return problem("clock", found, "set it, as root", _if_there("timedatectl set-ntp true"))


def _files_in(directory: str) -> tuple[int, int]:
    """How many certificates OpenSSL can find in a directory, and how many other entries there are."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)]
    except OSError:
        return 0, 0
    hashed = sum(1 for name in names if _HASHED.match(name))
    return hashed, len(names) - hashed


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    is_empty = error.reason == "NO_CERTIFICATE_OR_CRL_FOUND"
    return "it holds no certificate" if is_empty else "it is cut or damaged, and OpenSSL takes nothing from it"


def _fault_of_dates(periods: list[tuple[str, str]]) -> str | None:
    """What keeps all of some certificates from being trusted now; None: one at least is valid, or there is none.

    Args:
        periods: from when, and until when, as OpenSSL writes it.
    """
    now, to_seconds = time.time(), ssl.cert_time_to_seconds
    if not periods or any(to_seconds(begin) <= now <= to_seconds(end) for begin, end in periods):
        return None
    begins = [begin for begin, _ in periods if to_seconds(begin) > now]
    if not begins:
        return "have expired"
    if len(begins) < len(periods):
        return "have expired, or are not valid yet"
    return f"are not valid yet (before {min(begins, key=to_seconds)})"


def _meant_for_others(environ: Mapping[str, str], file: str, directory: str) -> Iterator[Finding]:
    """Somebody has told other programs of another store."""
    if environ.get("SSL_CERT_FILE"):
        return
    for name in _OTHERS_VARIABLES:
        path = environ.get(name, "")
        if not os.path.isfile(path):  # also: what is relative to a directory that is gone, and has no real path
            continue
        real = os.path.realpath(path)
        if real != os.path.realpath(file) and not real.startswith(_OF_THE_SYSTEM):
            # A file of one authority of somebody's own must not stand in for all others.
            is_enough = name not in _ADDED_TO and (_files_in(directory)[0] or _certificates_in(path) >= _A_WHOLE_STORE)
            yield warning(
                f"variable {name}",
                f"it names {shown_path(path)}; a daemon does not read it, only SSL_CERT_FILE",
                "if upstreams are to be trusted by it, "
                + ("before the daemon is started" if is_enough else "put what is in it into the system's store, too"),
                f'export SSL_CERT_FILE="${name}"' if is_enough else None,
            )
            return


def _certificates_in(path: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except OSError:
        return 0
    return context.cert_store_stats()["x509_ca"]


def _if_there(command: str) -> str | None:
    """A command of a system that this one may not be."""
    return command if shutil.which(command.partition(" ")[0]) else None
