"""Indexing with images that cannot be read: all of them named, or left out, and none forgotten."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_features import VIEWS, CountingImageTower, make_images, requests
from test_index import LONG_AGO, Case, counts, put, state

from saywhere.data import read
from saywhere.embed import EmbeddedImages
from saywhere.errors import DatasetError, InputError
from saywhere.features import image_features
from saywhere.index import Embedder, IndexReport, update_index
from saywhere.types import Record


class Choosy(Case):
    """A case whose embedder cannot read files that begin with "bad"."""

    def skipping(
        self,
        left_out: Sequence[str] | None = (),
        *,
        prune: bool = False,
        records: Sequence[Record] | None = None,
    ) -> IndexReport:
        self.fake.asked.clear()
        chosen = read(self.root).records if records is None else records
        by = Embedder(self.fake.name, "experts", self.embed)
        return update_index(by, chosen, self.root, self.uri, prune=prune, skipped=left_out)

    def embed(self, records: Sequence[Record]) -> EmbeddedImages:
        bad = {
            record.image_id: f"{record.path}: is bad; export it again"
            for record in records
            if record.path.read_text().startswith("bad")
        }
        sound = [record for record in records if record.image_id not in bad]
        if not sound:
            nothing = EmbeddedImages(self.fake.embed(records).embeddings, (), bad)
            made = replace(nothing.embeddings, ids=(), vectors=np.empty((0, 8), np.float32))
            return replace(nothing, embeddings=made)
        return replace(self.fake.embed(sound), bad=bad)


@pytest.fixture
def case(tmp_path: Path) -> Choosy:
    root = tmp_path / "photos"
    for number in range(6):
        put(root / "drone" / f"{number}.jpg", f"image {number}")
    made = Choosy(root, str(tmp_path / "index"))
    assert made.skipping().added == 6
    return made


def test_all_bad_images_are_named_at_once(case: Choosy) -> None:
    for number in range(25):
        put(case.root / f"ground/{number:02}.jpg", f"bad {number}")
    before = state(case)
    with pytest.raises(DatasetError) as error:
        case.skipping(None)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{case.root}: 25 problems; --skip-bad leaves out what is bad"
    assert len(lines) == 22
    assert lines[1] == f"  {case.root}/ground/00.jpg: is bad; export it again"
    assert lines[-1] == "  … and 5 more"
    assert state(case) == before


def test_one_bad_image_is_one_line(case: Choosy) -> None:
    put(case.root / "ground/a.jpg", "bad")
    with pytest.raises(DatasetError) as error:
        case.skipping(None)
    assert str(error.value) == (
        f"{case.root}: {case.root}/ground/a.jpg: is bad; export it again; "
        "--skip-bad leaves out what is bad"
    )


def test_new_bad_images_are_left_out_and_tried_again(case: Choosy) -> None:
    put(case.root / "ground/a.jpg", "bad")
    put(case.root / "ground/b.jpg", "good")
    report = case.skipping(["entry 3: no name"])
    assert counts(report) == (1, 0, 0, 6, 1)
    assert report.skipped == (
        "entry 3: no name",
        f"{case.root}/ground/a.jpg: is bad; export it again",
    )
    assert sorted(case.held())[-1] == "ground/b.jpg"
    assert len(case.held()) == report.count == 7
    before = state(case)
    assert counts(case.skipping()) == (0, 0, 0, 7, 0)
    assert state(case) == before, "nothing changed, so nothing is written"
    put(case.root / "ground/a.jpg", "mended")
    assert counts(case.skipping()) == (1, 0, 0, 7, 1)
    case.check_vectors()


def test_an_indexed_image_that_became_unreadable_keeps_its_row(case: Choosy) -> None:
    before, held = state(case), case.held()
    put(case.root / "drone/0.jpg", "bad")
    report = case.skipping()
    assert counts(report) == (0, 0, 0, 6, 0)
    assert len(report.skipped) == 1
    assert case.held() == held
    assert state(case) == before
    put(case.root / "drone/9.jpg", "another")  # a write must keep it as well
    assert counts(case.skipping()) == (1, 0, 0, 6, 1)
    assert case.held()["drone/0.jpg"] == held["drone/0.jpg"]
    case.check_vectors()
    put(case.root / "drone/0.jpg", "image 0")  # restored: the vector is there still
    assert counts(case.skipping()) == (0, 0, 0, 7, 0)
    put(case.root / "drone/0.jpg", "other")
    assert counts(case.skipping()) == (0, 1, 0, 6, 1)


def test_prune_and_deletion_drop_what_became_unreadable(case: Choosy) -> None:
    put(case.root / "drone/0.jpg", "bad")
    put(case.root / "drone/1.jpg", "bad")
    case.skipping()
    (case.root / "drone/1.jpg").unlink()
    assert counts(case.skipping()) == (0, 0, 1, 5, 0)
    assert counts(case.skipping(prune=True)) == (0, 0, 1, 4, 0)
    assert "drone/0.jpg" not in case.held()


@pytest.mark.parametrize("indexed", [True, False])
def test_nothing_but_bad_images(case: Choosy, tmp_path: Path, indexed: bool) -> None:
    if not indexed:
        case.uri = str(tmp_path / "new")
    held = case.held() if indexed else {}
    for path in case.root.rglob("*.jpg"):
        put(path, "bad")
    if indexed:
        assert counts(case.skipping()) == (0, 0, 0, 6, 0)
        assert case.held() == held
    else:
        with pytest.raises(DatasetError, match="6 problems\n"):
            case.skipping()
        assert not Path(case.uri).exists()


def test_what_the_dataset_left_out_is_not_taken_for_deleted(case: Choosy) -> None:
    """A bad entry of a table has no image id: its image is only missing among the others."""
    records = [record for record in read(case.root).records if record.image_id != "drone/0.jpg"]
    report = case.skipping(["line 2: no number"], records=records)
    assert (report.deleted, report.unreachable, report.count) == (0, 1, 6)
    (case.root / "drone/1.jpg").unlink()  # while a file that is gone is gone
    records = records[1:]
    report = case.skipping(["line 2: no number"], records=records)
    assert (report.deleted, report.unreachable, report.count) == (1, 1, 5)
    assert case.skipping([], records=records).deleted == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_rights_keeps_its_row(case: Choosy) -> None:
    path = case.root / "drone/0.jpg"
    os.utime(path, (LONG_AGO + 9, LONG_AGO + 9))
    path.chmod(0)
    assert counts(case.skipping()) == (0, 0, 0, 6, 0)


def test_features_of_the_others_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    paths = make_images(tmp_path / "i", 6)
    expected = image_features(CountingImageTower(), requests(paths), 64)
    paths[2].write_bytes(paths[2].read_bytes()[:-60])
    shutil.copy(paths[2], paths[4])
    asked, refused = requests(paths), dict[str, str]()
    tower = CountingImageTower()
    found = image_features(tower, asked, 64, refused=refused)
    assert [len(views) for views in found] == [3, 3, 0, 3, 0, 3]
    for index in (0, 1, 3, 5):
        np.testing.assert_array_equal(found[index], expected[index])
    [(digest, cause)] = refused.items()
    assert digest == asked[2].content_hash
    assert cause.startswith("is not a whole image (")
    assert tower.views == 0, f"all {len(VIEWS)} views of the others were cached"


def test_the_command_line_skips_and_counts(small_experts: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from saywhere.cli import commands

    root = tmp_path / "photos"
    make_images(root, 3)
    (root / "broken.png").write_bytes((root / "000.png").read_bytes()[:-60])
    shutil.copy(root / "broken.png", root / "same\nbytes.png")
    (root / "page.jpg").write_text("<html>")
    common = ["--experts", str(small_experts), "--index", str(tmp_path / "i"), "--threads", "1"]
    done = CliRunner().invoke(commands, ["index", str(root), *common])
    assert isinstance(done.exception, DatasetError)
    assert len(done.exception.problems) == 3
    assert "--skip-bad" in str(done.exception)
    assert not (tmp_path / "i").exists()
    done = CliRunner().invoke(commands, ["index", str(root), *common, "--skip-bad", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["added"], found["skipped"]) == (3, 3, 3)
    lines = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 3
    for name, remedy in (
        ("broken.png", "export it again"),
        (r"same\nbytes.png", "export it again"),
        ("page.jpg", "use JPEG"),
    ):
        assert sum(f"{root}/{name}: " in line and remedy in line for line in lines) == 1


def test_a_link_to_a_name_that_is_not_utf8_is_indexed_as_the_link(case: Choosy) -> None:
    target = case.root.parent / os.fsdecode(b"caf\xe9.jpg")
    put(target, "far")
    (case.root / "near.jpg").symlink_to(target)
    assert counts(case.skipping()) == (1, 0, 0, 6, 1)
    assert case.held()["near.jpg"].path == str(case.root / "near.jpg")
    assert counts(case.skipping()) == (0, 0, 0, 7, 0)


def test_file_names_that_are_not_utf8_are_left_out(small_experts: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from saywhere.cli import commands

    root = tmp_path / "photos"
    make_images(root, 1)
    PIL.Image.new("RGB", (9, 9)).save(root / "x.png")
    (root / "x.png").rename(root / os.fsdecode(b"caf\xe9.png"))
    common = ["--experts", str(small_experts), "--index", str(tmp_path / "i"), "--threads", "1"]
    done = CliRunner().invoke(commands, ["index", str(root), *common])
    assert isinstance(done.exception, InputError)
    assert "rename the file; --skip-bad leaves out what is bad" in str(done.exception)
    done = CliRunner().invoke(commands, ["index", str(root), *common, "--skip-bad", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["skipped"] == 1
