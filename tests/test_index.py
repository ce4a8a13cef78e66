"""An index follows its folder: what is new is embedded, what is gone goes, doubtful stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from saywhere.data import read
from saywhere.embed import EmbeddedImages
from saywhere.errors import ImageError, IndexMismatchError, InputError
from saywhere.files import hash_file
from saywhere.index import Embedder, IndexReport, update_index
from saywhere.keeping import compact_index, verify_index
from saywhere.store import SCHEMA_VERSION, open_store, open_writer
from saywhere.store.columns import arrow_rows
from saywhere.store.generations import MANIFEST
from saywhere.store.lance import LanceStore
from saywhere.store.row import Row
from saywhere.store.verify import verify_store
from saywhere.types import Embeddings, FloatArray, Platform, Record

DIMENSION = 8
LONG_AGO = 1_600_000_000


@dataclass
class Fake:
    """Embeds a file's bytes as a vector of their hash, and keeps the ids it was asked for."""

    name: str = "a" * 64
    asked: list[str] = field(default_factory=list)

    def embed(self, records: Sequence[Record]) -> EmbeddedImages:
        self.asked += [record.image_id for record in records]
        hashes = [hash_file(record.path) for record in records]
        vectors = np.stack([vector_of(text) for text in hashes])
        ids = tuple(record.image_id for record in records)
        return EmbeddedImages(Embeddings(ids, vectors, self.name), tuple(hashes))

    @property
    def by(self) -> Embedder:
        return Embedder(self.name, "experts", self.embed)


def vector_of(content_hash: str) -> FloatArray:
    return np.frombuffer(bytes.fromhex(content_hash)[:DIMENSION], np.uint8).astype(np.float32)


def put(path: Path, content: str, *, age: int = LONG_AGO) -> None:
    """A file of that content, as old as all others unless said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (age, age))


@dataclass
class Case:
    """A folder of six files, its index, and a fake embedder."""

    root: Path
    uri: str
    fake: Fake = field(default_factory=Fake)

    def update(self, *, rebuild: bool = False, prune: bool = False) -> IndexReport:
        self.fake.asked.clear()
        records = read(self.root).records
        return update_index(
            self.fake.by, records, self.root, self.uri, rebuild=rebuild, prune=prune
        )

    def held(self) -> dict[str, Row]:
        with open_writer(self.uri) as writer:
            return {row.image_id: row for row in writer.rows()}

    def check_vectors(self) -> None:
        """Every row has the vector of its own content hash, read back through a search."""
        rows = self.held()
        asked = np.stack([vector_of(row.content_hash) for row in rows.values()])
        for row, hits in zip(rows.values(), open_store(self.uri).search(asked, 99), strict=True):
            score = next(hit.score for hit in hits if hit.image_id == row.image_id)
            expected = vector_of(row.content_hash)
            assert score == pytest.approx(float(expected @ expected))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    root = tmp_path / "photos"
    for number in range(6):
        put(root / ("drone" if number % 2 else "ground") / f"{number}.jpg", f"image {number}")
    made = Case(root, str(tmp_path / "index"))
    assert made.update().added == 6
    return made


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    """Added, changed, deleted, unchanged, embedded."""
    return report.added, report.changed, report.deleted, report.unchanged, report.embedded


def state(case: Case) -> bytes:
    """The manifest, whose generation is another after every write."""
    return (Path(case.uri) / MANIFEST).read_bytes()


def test_unchanged_files_are_not_read_and_nothing_is_written(case: Case) -> None:
    before = state(case)
    assert counts(case.update()) == (0, 0, 0, 6, 0)
    put(case.root / "ground/0.jpg", "IMAGE 0")  # of the same size and time: read, it would show
    assert counts(case.update()) == (0, 0, 0, 6, 0)
    assert case.fake.asked == []
    assert state(case) == before


def test_new_changed_and_deleted_files(case: Case) -> None:
    put(case.root / "drone/7.jpg", "new")
    put(case.root / "ground/0.jpg", "other bytes")
    (case.root / "ground/2.jpg").unlink()
    assert counts(case.update()) == (1, 1, 1, 4, 2)
    assert case.fake.asked == ["drone/7.jpg", "ground/0.jpg"]
    assert sorted(case.held()) == [
        "drone/1.jpg", "drone/3.jpg", "drone/5.jpg", "drone/7.jpg", "ground/0.jpg", "ground/4.jpg",
    ]  # fmt: skip
    case.check_vectors()
    assert counts(case.update()) == (0, 0, 0, 6, 0)


def test_a_touched_file_is_hashed_but_not_embedded(case: Case) -> None:
    os.utime(case.root / "ground/0.jpg", (LONG_AGO + 5, LONG_AGO + 5))
    assert counts(case.update()) == (0, 0, 0, 6, 0)
    assert case.held()["ground/0.jpg"].mtime_ns == (LONG_AGO + 5) * 10**9
    before = state(case)
    case.update()
    assert state(case) == before


def test_a_young_file_is_hashed_again(case: Case) -> None:
    """Its bytes may change again within the clock's tick: size and time would stay."""
    path = case.root / "ground/0.jpg"
    path.write_text("image A")
    stamp = path.stat().st_mtime_ns
    case.update()
    path.write_text("image B")
    os.utime(path, ns=(stamp, stamp))
    assert counts(case.update()) == (0, 1, 0, 5, 1)
    case.check_vectors()


def test_another_platform_embeds_again_and_another_place_does_not(case: Case) -> None:
    records = list(read(case.root).records)
    records[0] = replace(records[0], platform=Platform.SATELLITE)
    records[1] = replace(records[1], place_id="hall", lat=1.5, lon=2.5)
    case.fake.asked.clear()
    report = update_index(case.fake.by, records, case.root, case.uri)
    assert counts(report) == (0, 2, 0, 4, 1)
    assert case.fake.asked == [records[0].image_id]
    held = case.held()
    assert held[records[0].image_id].platform is Platform.SATELLITE
    assert (held[records[1].image_id].place_id, held[records[1].image_id].lat) == ("hall", 1.5)


def test_swapped_files_swap_their_vectors(case: Case) -> None:
    """Same size, same time, other path: only a rename could tell, and size and time don't."""
    a, b = case.root / "ground/0.jpg", case.root / "ground/2.jpg"
    os.utime(b, (LONG_AGO + 1, LONG_AGO + 1))
    case.update()
    a.rename(case.root / "x")
    b.rename(a)
    (case.root / "x").rename(b)
    assert counts(case.update()) == (0, 2, 0, 4, 2)
    case.check_vectors()


def gone(case: Case) -> None:
    shutil.rmtree(case.root)


def emptied(case: Case) -> None:
    gone(case)
    case.root.mkdir()


def unlistable(case: Case) -> None:
    (case.root / "drone").chmod(0)


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("loss", [gone, emptied])
def test_an_unreachable_root_deletes_nothing(
    case: Case, loss: Callable[[Case], None], prune: bool
) -> None:
    before = state(case)
    loss(case)
    with pytest.raises(InputError, match=r"no such f|holds no image"):
        case.update(prune=prune)
    with pytest.raises(InputError, match="no image to index"):
        update_index(case.fake.by, [], case.root, case.uri, prune=prune)
    assert state(case) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_forbidden_folder_deletes_nothing(case: Case) -> None:
    unlistable(case)
    with pytest.raises(InputError, match="cannot be listed"):
        case.update(prune=True)
    (case.root / "drone").chmod(0o755)
    assert len(case.held()) == 6


def test_files_the_system_cannot_speak_of_are_kept(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def stale(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self.suffix == ".jpg" and self.parent.name == "drone":
            raise OSError(116, "Stale file handle")
        return stat(self, follow_symlinks=follow_symlinks)

    records = [record for record in read(case.root).records if "drone" not in record.image_id]
    monkeypatch.setattr(Path, "stat", stale)
    report = update_index(case.fake.by, records, case.root, case.uri, prune=True)
    assert (report.deleted, report.unreachable, report.count) == (0, 3, 6)


def test_an_empty_mount_point_is_kept_until_pruned(case: Case) -> None:
    put(case.root / "ground/deep/er/9.jpg", "nine")
    case.update()
    shutil.rmtree(case.root / "ground/deep/er")  # what lies on a disk is gone, its mount point not
    shutil.rmtree(case.root / "drone")
    (case.root / "drone").mkdir()
    report = case.update()
    assert (report.deleted, report.unreachable, report.count) == (0, 4, 7)
    report = case.update(prune=True)
    assert (report.deleted, report.unreachable, report.count) == (4, 0, 3)


def test_a_link_that_leads_nowhere_is_kept(case: Case, tmp_path: Path) -> None:
    put(tmp_path / "disk/usb/9.jpg", "nine")
    put(tmp_path / "disk/other.txt", "the disks' folder isn't empty")
    (case.root / "usb").symlink_to(tmp_path / "disk/usb")
    assert case.update().added == 1
    shutil.rmtree(tmp_path / "disk/usb")
    report = case.update()
    assert (report.deleted, report.unreachable, report.count) == (0, 1, 7)
    (case.root / "usb").unlink()
    assert case.update().deleted == 1


def test_a_removed_folder_is_deleted(case: Case) -> None:
    shutil.rmtree(case.root / "drone")
    report = case.update()
    assert (report.deleted, report.unreachable, report.count) == (3, 0, 3)


def test_losing_most_images_needs_prune(case: Case) -> None:
    for number in (0, 1, 2, 3):
        next(case.root.rglob(f"{number}.jpg")).unlink()
    before = state(case)
    with pytest.raises(InputError, match=r"4 of its 6 images are gone .*--prune"):
        case.update()
    assert state(case) == before
    assert counts(case.update(prune=True)) == (0, 0, 4, 2, 0)


def test_other_experts_need_rebuild(case: Case) -> None:
    before = state(case)
    case.fake.name = "b" * 64
    with pytest.raises(IndexMismatchError, match=f"{'a' * 12}.*{'b' * 12}.*--rebuild"):
        case.update()
    assert state(case) == before
    assert counts(case.update(rebuild=True)) == (6, 0, 0, 0, 6)
    assert open_store(case.uri).info().expert_hash == "b" * 64


def test_another_root_needs_rebuild(case: Case, tmp_path: Path) -> None:
    shutil.copytree(case.root, tmp_path / "copy")
    moved = Case(tmp_path / "copy", case.uri)
    with pytest.raises(IndexMismatchError, match=r"photos.*copy.*--rebuild"):
        moved.update()
    assert moved.update(rebuild=True).count == 6
    assert open_store(case.uri).info().root == str(tmp_path / "copy")


def test_a_damaged_index_is_refused_until_rebuilt(case: Case) -> None:
    (Path(case.uri) / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="--rebuild"):
        case.update()
    assert case.update(rebuild=True).added == 6


def test_a_failing_embedder_leaves_the_index_as_it_was(case: Case, tmp_path: Path) -> None:
    def refuse(records: Sequence[Record]) -> EmbeddedImages:
        raise ImageError("7.jpg: no image")

    put(case.root / "drone/7.jpg", "new")
    before, broken = state(case), Embedder(case.fake.name, "experts", refuse)
    records = read(case.root).records
    with pytest.raises(ImageError, match="no image"):
        update_index(broken, records, case.root, case.uri)
    assert state(case) == before
    with pytest.raises(ImageError, match="no image"):
        update_index(broken, records, case.root, str(tmp_path / "first"))
    assert not (tmp_path / "first").exists()


def test_vectors_that_are_not_finite_are_refused(case: Case) -> None:
    def broken(records: Sequence[Record]) -> EmbeddedImages:
        made = case.fake.embed(records)
        return replace(made, embeddings=replace(made.embeddings, vectors=made.embeddings.vectors
                                                * np.float32(np.nan)))  # fmt: skip

    put(case.root / "drone/7.jpg", "new")
    with pytest.raises(InputError, match="not finite"):
        update_index(Embedder(case.fake.name, "experts", broken), read(case.root).records,
                     case.root, case.uri)  # fmt: skip
    assert len(case.held()) == 6


def test_an_image_listed_twice_is_refused(case: Case) -> None:
    records = read(case.root).records
    with pytest.raises(InputError, match="listed twice"):
        update_index(case.fake.by, [*records, records[0]], case.root, case.uri)


def as_schema_1(case: Case) -> None:
    """Rewrites the index as version 0.1 wrote it: no sizes, no times."""
    import lancedb

    rows = list(case.held().values())
    vectors = np.stack([vector_of(row.content_hash) for row in rows])
    path = Path(case.uri) / MANIFEST
    manifest = json.loads(path.read_text())
    database = lancedb.connect(str(Path(case.uri) / manifest["generation"]))
    database.create_table("images", arrow_rows(rows, vectors, 1), mode="overwrite")
    path.write_text(json.dumps(manifest | {"schema_version": 1}))


def test_schema_1_is_searched_as_it_is_and_migrated_by_an_update(case: Case) -> None:
    as_schema_1(case)
    store = open_store(case.uri)
    assert (store.info().schema_version, store.info().count) == (1, 6)
    case.check_vectors()
    store.add([Row("late", "late.jpg", "h", size=3)], np.ones((1, DIMENSION), np.float32))
    assert store.info().count == 7
    report = case.update()  # every file is hashed, no file is embedded, "late" is gone
    assert counts(report) == (0, 0, 1, 6, 0)
    assert open_store(case.uri).info().schema_version == SCHEMA_VERSION
    assert {row.mtime_ns for row in case.held().values()} == {LONG_AGO * 10**9}
    case.check_vectors()


def test_compact_migrates_too_and_frees_what_replaced_rows_left(case: Case) -> None:
    as_schema_1(case)
    store, late = open_store(case.uri), np.ones((50, DIMENSION), np.float32)
    for _ in range(5):
        store.add([Row(f"late{n}", "late.jpg", "h") for n in range(50)], late)
    leftover = Path(case.uri) / "generation-0123456789ab"
    put(leftover / "junk", "x" * 100_000)
    done = compact_index(case.uri)
    assert done.count == store.info().count == 56
    assert done.bytes_after < done.bytes_before - 100_000
    assert not leftover.exists()
    assert store.info().schema_version == SCHEMA_VERSION


def test_compact_of_nothing_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index at"):
        compact_index(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_verify(case: Case) -> None:
    assert verify_store(case.uri) == replace(verify_store(case.uri), problems=(), missing=())
    put(case.root / "drone/1.jpg", "other bytes")
    (case.root / "ground/2.jpg").unlink()
    sly = case.root / "ground/0.jpg"
    put(sly, sly.read_text().upper())  # other bytes, size and time as before
    found = verify_store(case.uri)
    assert (found.problems, found.missing, found.changed) == (
        (),
        ("ground/2.jpg",),
        ("drone/1.jpg",),
    )
    assert verify_store(case.uri, content=True).changed == ("drone/1.jpg", "ground/0.jpg")
    [problem] = verify_index(case.uri).problems
    assert "experts" in problem, "the fake ones are nowhere"


def test_verify_names_twins_and_vectors_that_are_not_finite(case: Case) -> None:
    import lancedb

    rows = list(case.held().values())
    vectors = np.ones((7, DIMENSION), np.float32)
    vectors[2, 3] = np.inf  # LanceDB itself refuses NaN
    generation = json.loads(state(case))["generation"]
    database = lancedb.connect(str(Path(case.uri) / generation))
    database.create_table(
        "images", arrow_rows([*rows, rows[0]], vectors, SCHEMA_VERSION), mode="overwrite"
    )
    problems = verify_store(case.uri).problems
    assert len(problems) == 2
    assert f"1 images are held twice ({rows[0].image_id!r})" in problems[0]
    assert f"not finite ({rows[2].image_id!r})" in problems[1]


def test_verify_of_an_index_that_cannot_be_opened(case: Case) -> None:
    [data] = Path(case.uri).glob("*/images.lance/data/*")
    data.write_bytes(b"noise")
    [problem] = verify_store(case.uri).problems
    assert "cannot read it" in problem
    (Path(case.uri) / MANIFEST).unlink()
    [problem] = verify_store(case.uri).problems
    assert "no index at" in problem


def test_verify_starts_again_when_an_update_sweeps_what_it_reads(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, times = LanceStore.vectors, list[int]()

    def swept(self: LanceStore) -> Iterator[tuple[list[str], FloatArray]]:
        times.append(1)
        if len(times) == 1:
            case.update(rebuild=True)
            raise InputError("its table is gone")
        return vectors(self)

    monkeypatch.setattr(LanceStore, "vectors", swept)
    assert verify_store(case.uri).problems == ()


def test_readers_go_on_through_updates_and_compactions(case: Case) -> None:
    reader, stop, failures = open_store(case.uri), threading.Event(), list[BaseException]()
    answers: list[int] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                [hits] = open_store(case.uri).search(np.ones((1, DIMENSION), np.float32), 99)
                assert len(hits) == len(reader.search(np.ones((1, DIMENSION), np.float32), 99)[0])
                answers.append(len(hits))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for turn in range(8):
        # One comes and one goes at once: a reader that sees five or seven saw half an update.
        old = sorted(case.root.rglob("*.jpg"))[0]
        put(old.with_name(f"new{turn}.jpg"), f"turn {turn}")
        old.unlink()
        assert counts(case.update())[:3] == (1, 0, 1)
        compact_index(case.uri)
    stop.set()
    thread.join()
    assert failures == []
    assert set(answers) == {6}


UPDATE_AND_WAIT = """
import sys
from pathlib import Path
import numpy as np
from saywhere.data import read
from saywhere.embed import EmbeddedImages
from saywhere.index import Embedder, update_index
from saywhere.store import writer
from saywhere.types import Embeddings
uri, root, moment = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
def wait(where):
    if where == moment:
        print("waiting", flush=True)
        sys.stdin.readline()
def embed(records):
    wait("embedding")
    ids = tuple(record.image_id for record in records)
    vectors = np.ones((len(ids), 8), np.float32)
    return EmbeddedImages(Embeddings(ids, vectors, "a" * 64), ("h",) * len(ids))
append = writer.LanceStore.append
def slow_append(self, *args):
    append(self, *args)
    wait("writing")
writer.LanceStore.append = slow_append
update_index(Embedder("a" * 64, "experts", embed), read(root).records, root, uri)
"""


@pytest.mark.parametrize("moment", ["embedding", "writing"])
def test_a_killed_update_keeps_the_old_index_and_a_second_one_is_refused(
    case: Case, moment: str
) -> None:
    put(case.root / "drone/7.jpg", "new")
    (case.root / "ground/0.jpg").unlink()
    before, held = state(case), case.held()
    arguments = [sys.executable, "-c", UPDATE_AND_WAIT, case.uri, str(case.root), moment]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        busy = "another process is building it .*wait"
        with pytest.raises(InputError, match=busy):
            case.update()
        with pytest.raises(InputError, match=busy):
            compact_index(case.uri)
        with pytest.raises(InputError, match=busy):
            open_store(case.uri).add([Row("x", "x", "h")], np.ones((1, DIMENSION), np.float32))
        assert open_store(case.uri).info().count == 6
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert state(case) == before
    assert case.held() == held
    assert counts(case.update()) == (1, 0, 1, 5, 1)
    assert len(list(Path(case.uri).iterdir())) == 2, "the killed update left something behind"
    case.check_vectors()


def test_the_command_line_follows_a_folder(
    small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from saywhere.cli import commands

    def run(*arguments: object) -> tuple[dict[str, object], str]:
        done = CliRunner().invoke(commands, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout), done.stderr

    root, uri = tmp_path / "campus", tmp_path / "index"
    source = sorted((small_world / "imagery/drone").glob("*.jpg"))
    for path in source[:4]:
        (root / "drone").mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, root / "drone" / path.name)
    index = ("index", root, "--experts", small_experts, "--index", uri, "--threads", 1)
    first, _ = run(*index)
    assert (first["images"], first["added"], first["with_coordinates"]) == (4, 4, 4)
    (root / "drone" / source[0].name).unlink()
    shutil.copy2(source[4], root / "drone" / source[4].name)
    second, remarks = run(*index)
    assert (second["added"], second["deleted"], second["unchanged"]) == (1, 1, 3)
    assert "1 added, 0 changed, 1 deleted, 3 unchanged" in remarks
    checked, _ = run("index", "verify", "--index", uri, "--content")
    assert (checked["sound"], checked["missing"], checked["changed"]) == (True, [], [])
    compacted, _ = run("index", "compact", "--index", uri)
    assert compacted["count"] == 4
    found, _ = run("search", "a red roof", "--index", uri, "--threads", 1)
    assert isinstance(found["hits"], list)
    assert len(found["hits"]) == 4
    shutil.move(root, tmp_path / "elsewhere")
    broken = CliRunner().invoke(commands, ["index", "verify", "--index", str(tmp_path / "no")])
    assert isinstance(broken.exception, InputError)
