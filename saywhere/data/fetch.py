"""Files of configured hosts, fetched within bounds into a cache by content."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import SplitResult

from saywhere.data.hrefs import Hrefs, check_host, shown_address, split_address
from saywhere.data.source import is_file
from saywhere.errors import InputError
from saywhere.files import hash_text, temporary_folder, write_text

MAX_BYTES = 500_000_000  # what a decoder would take, about
SECONDS = 300.0  # for one file
_SILENCE_SECONDS = 20.0  # between two packets
_BLOCK = 1 << 16
_SUFFIX_LENGTH = 5  # .jpeg


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the cache knows of an address: its file, and by what the host tells versions apart."""

    path: Path
    etag: str
    modified: str


def fetch(
    address: str, hrefs: Hrefs, *, max_bytes: int = MAX_BYTES, seconds: float = SECONDS
) -> Path:
    """The file at an address, from the cache where the host says that it is unchanged.

    Raises:
        InputError: a host that is not configured, on the way as well; one that does not answer,
            is slow, or sends too much. A clause with its remedy.
    """
    parts = split_address(address)
    check_host(parts, hrefs)
    if hrefs.cache is None:
        raise InputError(f"href {shown_address(parts)} is remote; download it and name its path")
    note = hrefs.cache / "addresses" / f"{hash_text(address)}.json"
    kept = _kept(note)
    request = urllib.request.Request(address, headers=_headers(kept))  # noqa: S310
    deadline = time.monotonic() + seconds
    try:
        with _opener(hrefs).open(request, timeout=min(_SILENCE_SECONDS, seconds)) as answer:
            path = _store(answer, hrefs.cache, parts, max_bytes, deadline)
            headers = answer.headers
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.NOT_MODIFIED and kept:
            return kept.path
        raise InputError(
            f"href {shown_address(parts)} answers {error.code}; check it in a browser"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"href {shown_address(parts)} cannot be fetched ({_cause(error)}); try again, or "
            "download it and name its path"
        ) from None
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    write_text(note, json.dumps({"file": path.name, "etag": etag, "modified": modified}))
    return path


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to configured hosts only, and never from HTTPS to HTTP."""

    def __init__(self, hrefs: Hrefs) -> None:
        self.hrefs = hrefs

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        parts = split_address(newurl)
        check_host(parts, self.hrefs)
        if req.type == "https" and parts.scheme != "https":
            raise InputError(
                f"href is redirected to {shown_address(parts)}, without encryption; write the "
                "address it should have"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(hrefs: Hrefs) -> urllib.request.OpenerDirector:
    """Of HTTP and HTTPS only: the usual one opens files and FTP, too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(hrefs),
    ):
        opener.add_handler(handler)
    return opener


def _headers(kept: _Kept | None) -> dict[str, str]:
    conditions: dict[str, str] = {}
    if kept and kept.etag:
        conditions["If-None-Match"] = kept.etag
    elif kept and kept.modified:
        conditions["If-Modified-Since"] = kept.modified
    return {"User-Agent": "saywhere", "Accept": "image/*, */*;q=0.1", **conditions}


def _store(
    answer: http.client.HTTPResponse,
    cache: Path,
    parts: SplitResult,
    max_bytes: int,
    deadline: float,
) -> Path:
    suffix = PurePosixPath(parts.path).suffix.lower()
    suffix = suffix if suffix[1:].isalnum() and len(suffix) <= _SUFFIX_LENGTH else ""
    if (answer.length or 0) > max_bytes:
        raise _too_large(parts, max_bytes)
    digest, size = hashlib.sha256(), 0
    with temporary_folder(cache) as folder:
        draft = folder / "incoming"
        with draft.open("wb") as file:
            while block := answer.read1(_BLOCK):  # read() would wait for a whole block
                size += len(block)
                if size > max_bytes:
                    raise _too_large(parts, max_bytes)
                if time.monotonic() > deadline:
                    raise TimeoutError
                digest.update(block)
                file.write(block)
            if answer.length:  # promised, and never came
                raise http.client.IncompleteRead(b"", answer.length)
            file.flush()
            os.fsync(file.fileno())
        path = cache / f"{digest.hexdigest()}{suffix}"
        draft.replace(path)
    return path


def _too_large(parts: SplitResult, max_bytes: int) -> InputError:
    return InputError(
        f"href {shown_address(parts)} is larger than {max_bytes:,} bytes; download it and index "
        "it as a file"
    )


def _kept(note: Path) -> _Kept | None:
    """None where the address was never fetched, or its file is gone."""
    try:
        known = json.loads(note.read_text("utf-8"))
        path = note.parents[1] / PurePosixPath(known["file"]).name
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return _Kept(path, _text(known, "etag"), _text(known, "modified")) if is_file(path) else None


def _text(known: Mapping[str, object], name: str) -> str:
    """A header's value, which must not end its line."""
    value = known.get(name)
    return value if isinstance(value, str) and value.isprintable() else ""


def _cause(error: Exception) -> str:
    """What happened, without what an address holds."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return "too slow" if isinstance(reason, TimeoutError) else type(reason).__name__
