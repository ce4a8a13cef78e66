"""Where a file's hrefs may lead: into configured folders, and to configured hosts, nowhere else.

A catalogue comes from anywhere, and its hrefs are its author's. What is fetched is bounded in size
and time and kept under the hash of its content, so that a second run asks only whether it changed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from saywhere.data.source import is_file, is_unicode, shown
from saywhere.errors import InputError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Hrefs:
    """What hrefs may lead to.

    Attributes:
        roots: folders whose files may be named, links resolved; none is the file's own folder.
        hosts: ``NAME`` or ``NAME:PORT`` of hosts that may be asked, by HTTPS or HTTP.
        cache: where fetched files are kept; None fetches nothing.
    """

    roots: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    cache: Path | None = None


OWN_FOLDER = Hrefs()


def resolve_href(href: str, folder: Path, hrefs: Hrefs) -> Path:
    """The file an href means, fetched if need be; it exists, or belongs where it would be.

    Args:
        href: a path relative to ``folder``, an absolute one, or a ``file``, ``http`` or ``https``
            address.

    Raises:
        InputError: one that leads elsewhere or cannot be fetched; a clause with its remedy, to be
            put after the entry's name. It never shows user names, passwords or queries.
    """
    if not href.strip() or not is_unicode(href) or "\0" in href:
        raise InputError(f"href {shown(href)} is no path; write one in Unicode")
    scheme = match.group(1).lower() if (match := _SCHEME.match(href)) else ""
    if scheme in _PORTS:
        from saywhere.data.fetch import fetch

        return fetch(href, hrefs)
    if scheme == "file":
        parts = split_address(href)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"href {shown(href)} is of another computer; copy the file here")
        return _local(unquote(parts.path), folder, hrefs)
    if scheme:
        raise InputError(
            f"href of scheme {shown(scheme)} cannot be followed; download the file and name its "
            "path"
        )
    return _local(href, folder, hrefs)


def split_address(address: str) -> SplitResult:
    """The parts of an address.

    Raises:
        InputError: one that is malformed.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port  # a port that is none shows only when asked for
    except ValueError:
        raise InputError("href is no address; write it as https://HOST/PATH") from None
    return parts


def shown_address(parts: SplitResult) -> str:
    """An address for messages: without a user, a password, a query or a fragment."""
    port = f":{parts.port}" if parts.port else ""
    return shown(f"{parts.scheme}://{parts.hostname}{port}{parts.path}")


def check_host(parts: SplitResult, hrefs: Hrefs) -> None:
    """Refuse an address of a host that is not configured, or with a user in it.

    Raises:
        InputError: a clause with its remedy.
    """
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    if parts.scheme not in _PORTS or not host:
        raise InputError("href is no address; write it as https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"href {shown_address(parts)} has a user in it; remove it")
    names = {name.lower() for name in hrefs.hosts}
    usual = port == _PORTS[parts.scheme]
    if f"{host}:{port}" not in names and not (usual and host in names):
        name = host if usual else f"{host}:{port}"
        raise InputError(
            f"href {shown_address(parts)} is of a host that is not configured; allow it with "
            f"--host {shown(name)}"
        )


def _local(name: str, folder: Path, hrefs: Hrefs) -> Path:
    """A path below one of the roots, links resolved; as written, else with %20 and kin decoded."""
    roots = [Path(os.path.realpath(root)) for root in hrefs.roots or (folder,)]
    found = []
    for spelling in dict.fromkeys((name, unquote(name))):
        if "\0" in spelling:
            continue
        path = Path(os.path.realpath(folder / spelling))
        if not any(path.is_relative_to(root) for root in roots):
            raise InputError(
                f"href {shown(name)} leads out of {shown(', '.join(map(str, roots)))}; move the "
                "file there or allow its folder with --root"
            )
        found.append(path)
    if not found:
        raise InputError(f"href {shown(name)} is no path; write one in Unicode")
    return next(filter(is_file, found), found[0])
