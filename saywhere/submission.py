"""Track 4 submissions: write them, and check one before it is sent.

A submission has one line a query, ``q1 image_aaaaaaaa …``: the query id and the names of the best
ten images, without extension, best first, separated by single spaces. It is sent as
``submission.txt`` at the root of a zip.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from saywhere.data.folder import IMAGE_SUFFIXES
from saywhere.data.source import is_file
from saywhere.errors import DatasetError, InputError
from saywhere.files import atomic_path

MEMBER = "submission.txt"
MAX_BYTES = 64 * 2**20
_QUERY_ID = re.compile(r"q(0|[1-9][0-9]*)")
_SHOWN = 5
_ZIP_MAGIC = b"PK\x03\x04"
# The earliest time a zip can hold: the same answers give the same bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class SubmissionReport:
    """What a check found in the file at ``path``.

    Attributes:
        lines: lines with an answer.
        problems: one text a fault, with line number and remedy; none means it can be sent.
        notes: what is unusual but no fault.
    """

    path: Path
    lines: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the file can be sent as it is."""
        return not self.problems

    def to_text(self) -> str:
        """A summary for a terminal: the verdict, then one line a problem and a note."""
        count = len(self.problems)
        verdict = "ready to send" if self.ok else f"{count} problem{'s' if count != 1 else ''}"
        head = f"{self.path}: {self.lines:,} line{'s' if self.lines != 1 else ''}, {verdict}"
        return "\n  ".join([head, *self.problems, *(f"note: {note}" for note in self.notes)])


def write_submission(
    path: Path,
    ranked: Mapping[str, Sequence[str]],
    *,
    length: int = 10,
    gallery: int | None = None,
) -> Path:
    """Write a submission as text and, beside it under the same stem, as the zip to send.

    Both appear whole or not at all, and the same answers give the same bytes.

    Args:
        path: the ``.txt`` file; its folder is made where missing.
        ranked: query id (``q1``) to image ids, best first; lines keep this order. What goes beyond
            ``length`` images is cut.
        length: images a line.
        gallery: how many images there are, where these may be fewer than ``length``.

    Returns:
        The path of the zip, which holds ``submission.txt`` at its root whatever ``path`` is called.

    Raises:
        DatasetError: answers that a submission cannot hold, all of them listed.
        InputError: no answers, a path that is no ``.txt``, or a folder that cannot be written.
    """
    if path.suffix.lower() != ".txt":
        raise InputError(f"{path}: a submission is a .txt file; name it submission.txt")
    if not ranked:
        raise InputError(f"{path}: no answers to write; search with at least one query")
    wanted = length if gallery is None else min(length, gallery)
    rows = {query_id: tuple(images[:length]) for query_id, images in ranked.items()}
    problems = [
        f"query {query_id!r}: {fault}"
        for query_id, images in rows.items()
        for fault in [*_id_faults(query_id), *_image_faults(images, wanted, None)]
    ]
    if problems:
        raise DatasetError(path, problems)
    text = "".join(f"{query_id} {' '.join(images)}\n" for query_id, images in rows.items())
    zipped = path.with_suffix(".zip")
    with atomic_path(zipped) as zip_file, atomic_path(path) as text_file:
        text_file.write_bytes(text.encode())
        zip_file.write_bytes(_zip(text.encode()))
    return zipped


def check_submission(
    path: Path,
    *,
    queries: Sequence[str] | None,
    images: Collection[str] | None,
    length: int = 10,
) -> SubmissionReport:
    """Check a submission, ``.txt`` or ``.zip``, and report all its problems at once.

    Args:
        queries: the query ids that must be answered (``q1``), in their order; None: not checked.
        images: the gallery's image ids; fewer than ``length`` shorten the lines. None: not checked.
        length: images a line.

    Raises:
        InputError: a file that is missing or cannot be opened.
    """
    data, problems = _read(path)
    if data is None:
        return SubmissionReport(path, 0, tuple(problems))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problems.append(f"byte {error.start} is not UTF-8; save the file with that encoding")
        return SubmissionReport(path, 0, tuple(problems))
    if not text.strip():
        problems.append("holds no line; write one for each query: q1 and its images")
        return SubmissionReport(path, 0, tuple(problems))
    if text.startswith("\ufeff"):
        problems.append("line 1: begins with a byte order mark; save the file without")
        text = text.removeprefix("\ufeff")
    lines = _Lines(length, queries, images)
    for number, line in enumerate(text.replace("\r\n", "\n").removesuffix("\n").split("\n"), 1):
        problems.extend(f"line {number}: {fault}" for fault in lines.faults(number, line))
    problems.extend(lines.missing())
    return SubmissionReport(path, lines.count, tuple(problems), tuple(lines.notes("\r\n" in text)))


class _Lines:
    """Checks line after line, remembering which queries were answered where."""

    def __init__(
        self, length: int, queries: Sequence[str] | None, images: Collection[str] | None
    ) -> None:
        self._queries = None if queries is None else dict.fromkeys(queries)
        self._images = None if images is None else frozenset(images)
        self._wanted = length if self._images is None else min(length, len(self._images))
        self._first: dict[str, int] = {}
        self.count = 0

    def faults(self, number: int, line: str) -> Iterator[str]:
        fields = line.split()
        if not fields:
            yield "is empty; delete it"
            return
        self.count += 1
        if line != " ".join(fields):
            yield "has white space other than single spaces between names; write one space each"
        query_id, *names = fields
        yield from _id_faults(query_id)
        if query_id in self._first:
            first = self._first[query_id]
            yield f"{_cut(query_id)} was answered on line {first} already; keep one line"
        elif self._queries is not None and query_id not in self._queries:
            yield f"{_cut(query_id)} is none of the queries; delete the line or mend the id"
        self._first.setdefault(query_id, number)
        yield from _image_faults(names, self._wanted, self._images)

    def missing(self) -> Iterator[str]:
        absent = [name for name in self._queries or () if name not in self._first]
        if absent:
            noun = "query has" if len(absent) == 1 else "queries have"
            yield f"{len(absent)} {noun} no line: {_some(absent)}; add a line for each"

    def notes(self, carriage_returns: bool) -> Iterator[str]:
        if carriage_returns:
            yield "lines end as on Windows; checkers on other systems may dislike it"
        asked = [name for name in self._queries or () if name in self._first]
        if asked != [name for name in self._first if name in (self._queries or ())]:
            yield "the lines are in another order than the queries"


def _id_faults(query_id: str) -> Iterator[str]:
    if not _QUERY_ID.fullmatch(query_id):
        yield f"id {_cut(query_id)} is not of the form q1; write q and the number without zeros"


def _image_faults(
    names: Sequence[str], wanted: int, gallery: frozenset[str] | None
) -> Iterator[str]:
    if len(names) != wanted:
        yield f"{len(names)} images where {wanted} are due; give {wanted}, best first"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"names an image twice: {_some(twice)}; name each once"
    spaced = [repr(name) for name in names if name.split() != [name]]
    if spaced:
        yield f"white space in or instead of a name: {_some(spaced)}; rename the image"
    extended = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if extended:
        yield f"names with extension: {_some(extended)}; write them without"
    if gallery is not None:
        known = gallery.union(extended)  # these were reported for what they are
        unknown = [name for name in dict.fromkeys(names) if name not in known]
        if unknown:
            yield f"not in the gallery: {_some(unknown)}; name images of this set"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_cut(name) for name in names[:_SHOWN]) + more


def _cut(name: str) -> str:
    """A name for a message: long ones cut, control characters escaped (they steer terminals)."""
    cut = name if len(name) <= 40 else name[:39] + "…"
    return cut if cut.isprintable() else repr(cut)


def _zip(data: bytes) -> bytes:
    info = zipfile.ZipInfo(MEMBER, _ZIP_TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, on every system
    info.external_attr = 0o644 << 16
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(info, data)
        return buffer.getvalue()


def _read(path: Path) -> tuple[bytes | None, list[str]]:
    """The bytes of the submission (None: no use) and the problems of its packing."""
    if not is_file(path):
        raise InputError(f"{path}: no such file; give the path of a submission .txt or .zip")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    if len(data) > MAX_BYTES:
        return None, [f"larger than {MAX_BYTES >> 20} MB; this is no submission"]
    if path.suffix.lower() == ".zip" or data.startswith(_ZIP_MAGIC):
        return _unzip(data)
    return data, []


def _unzip(data: bytes) -> tuple[bytes | None, list[str]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            problems = _packing_faults(names)
            found = [name for name in names if PurePosixPath(name).name == MEMBER]
            if not found:
                return None, problems
            # The size a zip declares may be a lie, so what is unpacked is bounded as well.
            info = archive.getinfo(MEMBER if MEMBER in found else found[0])
            # Of the other methods zipfile unpacks whole blocks, whatever size is asked for.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return None, [*problems, f"{MEMBER} is not deflated; zip it the usual way"]
            with archive.open(info) as member:
                text = member.read(MAX_BYTES + 1)
    except _BROKEN_ZIP as error:
        return None, [f"cannot be unpacked ({error}); zip {MEMBER} again"]
    if len(text) > MAX_BYTES:
        return None, [*problems, f"{MEMBER} unpacks to over {MAX_BYTES >> 20} MB; zip it again"]
    return text, problems


def _packing_faults(names: Sequence[str]) -> list[str]:
    faults = []
    if MEMBER not in names:
        faults.append(f"the zip has no {MEMBER} at its root; zip that file alone")
    if names.count(MEMBER) > 1:
        faults.append(f"the zip holds {MEMBER} twice; zip that file alone")
    others = [name for name in dict.fromkeys(names) if name != MEMBER]
    if others:
        faults.append(f"the zip holds more: {_some(others)}; zip {MEMBER} alone")
    return faults
