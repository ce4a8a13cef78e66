"""The feature cache: computed once, kept through anything, and bounded in memory."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from saywhere import decoding, feature_cache, features
from saywhere.errors import ImageError, InputError, SaywhereError, TowerError
from saywhere.features import (
    ImageRequest,
    content_hashes,
    feature_blocks,
    image_features,
    text_features,
)
from saywhere.towers import ImageTower, TextTower
from saywhere.types import FloatArray, Platform, Record
from saywhere.views import FIXED_VIEWS, View, random_views

VIEWS = (FIXED_VIEWS["full"], FIXED_VIEWS["large"], FIXED_VIEWS["rot+15"])


class CountingImageTower(ImageTower):
    """Means over a grid, so that every view counts; remembers the batches it was given."""

    def __init__(self, *, any_size: bool = True, pause: float = 0) -> None:
        self.fingerprint, self.dimension = "counting", 12
        self.metadata, self.native_size, self.any_size = {"name": "counting"}, 64, any_size
        self.batches: list[tuple[int, ...]] = []
        self._pause = pause

    @property
    def views(self) -> int:
        return sum(shape[0] for shape in self.batches)

    def encode(self, pixels: NDArray[np.uint8], adapter: object = None) -> FloatArray:
        n, edge = pixels.shape[:2]
        self.check_size(edge)
        self.batches.append(pixels.shape)
        time.sleep(self._pause)
        means = pixels.reshape(n, 2, edge // 2, 2, edge // 2, 3).mean((2, 4))
        return np.asarray(means.reshape(n, 12), np.float32)


class CountingTextTower(TextTower):
    batch_size = 4

    def __init__(self) -> None:
        self.fingerprint, self.dimension = "words", 3
        self.seen: list[str] = []

    def encode(self, texts: Any, adapter: object = None) -> FloatArray:
        self.seen += texts
        return np.asarray([[len(text), hash(text) % 97, 1] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for index in range(count):
        low = np.random.default_rng(index).integers(0, 255, (6, 5, 3), np.uint8)
        paths.append(folder / f"{index:03}.png")
        PIL.Image.fromarray(low).resize((50, 40)).save(paths[-1])
    return paths


def requests(paths: list[Path], views: tuple[View, ...] = VIEWS) -> list[ImageRequest]:
    hashes = content_hashes([Record(path.name, path) for path in paths])
    return [ImageRequest(path, h, views) for path, h in zip(paths, hashes, strict=True)]


def test_a_second_run_gives_the_same_bytes_and_asks_the_tower_nothing(tmp_path: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 7))
    told: list[tuple[int, int]] = []
    first = image_features(CountingImageTower(), asked, 64, lambda *p: told.append(p))
    assert [f.shape for f in first] == [(3, 12)] * 7
    assert told[-1] == (21, 21)
    tower = CountingImageTower()
    again = image_features(tower, asked, 64)
    assert tower.batches == []
    assert [f.tobytes() for f in again] == [f.tobytes() for f in first]


def test_features_are_those_of_each_view_alone(tmp_path: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 20), (*VIEWS, View(flip=True)))
    together = image_features(CountingImageTower(), asked, 64)
    from saywhere.images import read_image
    from saywhere.views import render

    for request, found in zip(asked, together, strict=True):
        image = read_image(request.path)
        for view, row in zip(request.views, found, strict=True):
            alone = CountingImageTower().encode(render(image, view, 64)[None])
            np.testing.assert_array_equal(alone[0], row)


def test_nothing_asked_gives_nothing(tmp_path: Path) -> None:
    assert image_features(CountingImageTower(), [], 64) == []
    empty = image_features(CountingImageTower(), requests(make_images(tmp_path / "i", 1), ()), 64)
    assert empty[0].shape == (0, 12)
    assert text_features(CountingTextTower(), []).shape == (0, 3)


def test_only_new_views_and_changed_files_are_computed(tmp_path: Path) -> None:
    paths = make_images(tmp_path / "i", 5)
    before = image_features(CountingImageTower(), requests(paths), 64)
    tower = CountingImageTower()
    image_features(tower, requests(paths, (*VIEWS, View(angle=40))), 64)
    assert tower.views == 5
    PIL.Image.new("RGB", (50, 40), "red").save(paths[2])
    tower = CountingImageTower()
    after = image_features(tower, requests(paths), 64)
    assert tower.views == 3
    assert [bool(np.array_equal(a, b)) for a, b in zip(after, before, strict=True)] == [
        True, True, False, True, True,
    ]  # fmt: skip


def test_equal_bytes_are_computed_once_whatever_their_name_or_platform(
    tmp_path: Path, cache: Path
) -> None:
    path = make_images(tmp_path / "i", 1)[0]
    other = tmp_path / "satellite.png"
    shutil.copy(path, other)
    tower = CountingImageTower()
    first, second = image_features(tower, requests([path, other]), 64)
    assert tower.views == 3
    np.testing.assert_array_equal(first, second)
    records = [Record("a", path, Platform.SATELLITE), Record("b", path, Platform.DRONE)]
    shared = View()
    drawn = [
        (shared, *random_views(digest, 2, record.platform))
        for record, digest in zip(records, content_hashes(records), strict=True)
    ]
    image_features(tower, [*requests([path], drawn[0]), *requests([path], drawn[1])], 64)
    assert tower.views == 3 + 4  # the shared view was known, the drawn ones differ by platform
    with sqlite3.connect(cache / "features" / "counting.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM features").fetchone() == (7,)


def test_other_sizes_and_towers_are_kept_apart(tmp_path: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 1), (View(angle=15),))
    small = image_features(CountingImageTower(), asked, 64)
    tower = CountingImageTower()
    large = image_features(tower, asked, 128)
    assert tower.views == 1
    assert not np.array_equal(small[0], large[0])
    tower.fingerprint = "another"
    image_features(tower, asked, 64)
    assert tower.views == 2


def test_a_tower_of_one_size_sees_every_view_at_it(tmp_path: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 2), (View(), View(scale=2), View(flip=True)))
    tower = CountingImageTower(any_size=False)
    found = image_features(tower, asked, 64)
    assert {shape[1:3] for shape in tower.batches} == {(64, 64)}
    assert tower.views == 4
    np.testing.assert_array_equal(found[0][0], found[0][1])
    with pytest.raises(TowerError, match="64 only"):
        image_features(tower, asked, 96)
    with pytest.raises(TowerError, match=r"towers\.image\.size"):
        image_features(CountingImageTower(), asked, 65)


def test_an_unreadable_image_midway_keeps_what_was_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_BATCH_PIXELS", 2 * 64 * 64)
    paths = make_images(tmp_path / "i", 12)
    good = paths[8].read_bytes()
    paths[8].write_bytes(good[:-60])
    tower = CountingImageTower()
    with pytest.raises(ImageError, match=r"008\.png"):
        image_features(tower, requests(paths, (View(),)), 64)
    assert tower.views == 8
    paths[8].write_bytes(good)
    tower = CountingImageTower()
    image_features(tower, requests(paths, (View(),)), 64)
    assert tower.views == 4


def test_a_file_that_changes_between_hash_and_decoding_is_refused(tmp_path: Path) -> None:
    paths = make_images(tmp_path / "i", 2)
    asked = requests(paths)
    shutil.copy(paths[0], paths[1])
    with pytest.raises(ImageError, match=r"001\.png: changed while .*; run again"):
        image_features(CountingImageTower(), asked, 64)


def test_missing_files_are_our_error_when_hashed(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(ImageError, match="cannot be read"):
            content_hashes([Record("a", path)])


def test_batches_are_bounded_by_pixels_and_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_BATCH_PIXELS", 4 * 128 * 128)
    tower = CountingImageTower()
    decoded = 0
    real = decoding._rendered
    lead: list[int] = []

    def counted(*args: Any) -> Any:
        nonlocal decoded
        decoded += 1
        lead.append(decoded - tower.views // 3)
        return real(*args)

    monkeypatch.setattr(decoding, "_rendered", counted)
    image_features(tower, requests(make_images(tmp_path / "i", 60)), 128)
    for count, edge, *_ in tower.batches:
        assert count * edge * edge <= 4 * 160 * 160
    assert tower.views == 180
    assert max(lead) < 12  # decoding stays just ahead of the tower


class TimedTower(CountingImageTower):
    """Several calls at a time, and when each was running."""

    def __init__(self, workers: int, pause: float) -> None:
        super().__init__(pause=pause)
        self.workers = workers
        self.spans: list[tuple[float, float]] = []

    def encode(self, pixels: NDArray[np.uint8], adapter: object = None) -> FloatArray:
        started = time.perf_counter()
        features = super().encode(pixels)
        self.spans.append((started, time.perf_counter()))
        return features


def together(spans: list[tuple[float, float]]) -> int:
    """How many spans overlapped at most."""
    moments = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    return int(np.cumsum([step for _, step in moments]).max())


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_run_side_by_side_while_others_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(decoding, "_BATCH_PIXELS", 2 * 64 * 64)
    spans: list[tuple[float, float]] = []
    real = decoding._rendered

    def timed(*args: Any) -> Any:
        started = time.perf_counter()
        time.sleep(0.005)
        made = real(*args)
        spans.append((started, time.perf_counter()))
        return made

    monkeypatch.setattr(decoding, "_rendered", timed)
    asked = requests(make_images(tmp_path / "i", 24), (View(),))
    tower = TimedTower(workers, pause=0.1)
    found = image_features(tower, asked, 64)
    assert together(tower.spans) == workers
    # Every image is decoded while the tower works, but for those it waits for at first.
    first = min(start for start, _ in tower.spans)
    late = [span for span in spans if span[0] > first]
    assert len(late) >= 24 - 2 - 3
    busy = [any(a < end and start < b for a, b in tower.spans) for start, end in late]
    assert np.mean(busy) > 0.8
    alone = CountingImageTower()
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "other"))
    for one, other in zip(found, image_features(alone, asked, 64), strict=True):
        np.testing.assert_array_equal(one, other)


def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_LOADED", 10)

    def peak(count: int) -> int:
        asked = requests(make_images(tmp_path / "i", count), (View(), View(flip=True)))
        gc.collect()
        tracemalloc.start()
        # The tower is the slow one, so nothing but the limit holds decoding back.
        for block in feature_blocks(CountingImageTower(pause=0.02), asked, 256):
            assert len(block) <= 10
        made = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return made

    peak(20)  # imports and Pillow's own caches
    few, many = peak(40), peak(160)
    pixels = 2 * 256 * 256 * 3  # of one image
    assert few > 3 * pixels  # Pillow's buffers are not traced, ours are
    assert many - few < 3 * pixels  # 120 images more: keys and paths, not pixels


def test_a_damaged_cache_is_one_clear_error(tmp_path: Path, cache: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 1))
    (cache / "features").mkdir(parents=True)
    path = cache / "features" / "counting.sqlite"
    path.write_bytes(b"no database " * 999)
    with pytest.raises(SaywhereError, match="delete the file") as error:
        image_features(CountingImageTower(), asked, 64)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    path.unlink()
    assert len(image_features(CountingImageTower(), asked, 64)) == 1


def test_rows_of_another_length_are_computed_anew(tmp_path: Path, cache: Path) -> None:
    asked = requests(make_images(tmp_path / "i", 1))
    first = image_features(CountingImageTower(), asked, 64)
    with sqlite3.connect(cache / "features" / "counting.sqlite") as connection:
        connection.execute("UPDATE features SET vector = x'00'")
    tower = CountingImageTower()
    np.testing.assert_array_equal(image_features(tower, asked, 64)[0], first[0])
    assert tower.views == 3


def test_a_cache_that_cannot_be_made_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SaywhereError, match="set SAYWHERE_CACHE"):
        text_features(CountingTextTower(), ["a"])


def test_texts_are_computed_once_and_keep_their_order(tmp_path: Path) -> None:
    tower = CountingTextTower()
    texts = ["bb", "a", "bb", "dddd", "", "ccc", "eeeee"]
    told: list[tuple[int, int]] = []
    first = text_features(tower, texts, lambda *p: told.append(p))
    assert sorted(tower.seen) == sorted(set(texts))
    assert first[:, 0].tolist() == [2, 1, 2, 4, 0, 3, 5]
    assert told == [(4, 6), (6, 6)]
    again = text_features(tower, [*texts, "new"])
    assert len(tower.seen) == 7
    np.testing.assert_array_equal(again[:7], first)
    with pytest.raises(InputError, match="not valid Unicode"):
        text_features(tower, ["\ud800"])


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_features as t
from saywhere import decoding
decoding._BATCH_PIXELS = 2 * 64 * 64
tower = t.CountingImageTower(pause=0.1)
asked = t.requests(sorted(Path({images!r}).iterdir()), (t.View(), t.View(flip=True)))
t.image_features(tower, asked, 64, lambda done, total: print(done, flush=True))
"""


def test_a_killed_run_is_taken_up_where_it_was(tmp_path: Path, cache: Path) -> None:
    paths = make_images(tmp_path / "i", 30)
    script = SCRIPT.format(tests=str(Path(__file__).parent), images=str(tmp_path / "i"))
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 10:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    tower = CountingImageTower()
    asked = requests(paths, (View(), View(flip=True)))
    resumed = image_features(tower, asked, 64)
    assert 0 < tower.views <= 50
    shutil.rmtree(cache)
    fresh = image_features(CountingImageTower(), asked, 64)
    assert [f.tobytes() for f in resumed] == [f.tobytes() for f in fresh]


def test_two_processes_share_a_cache(tmp_path: Path, cache: Path) -> None:
    paths = make_images(tmp_path / "i", 12)
    script = SCRIPT.format(tests=str(Path(__file__).parent), images=str(tmp_path / "i"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, env=environment)
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    tower = CountingImageTower()
    asked = requests(paths, (View(), View(flip=True)))
    shared = image_features(tower, asked, 64)
    assert tower.views == 0
    shutil.rmtree(cache)
    fresh = image_features(CountingImageTower(), asked, 64)
    assert [f.tobytes() for f in shared] == [f.tobytes() for f in fresh]


OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
import test_features as t
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    tower = t.CountingTextTower()
    tower.fingerprint = f"tower-{number}"
    t.text_features(tower, [sys.argv[2], "same"])
"""


def test_many_open_new_caches_at_once(tmp_path: Path, cache: Path) -> None:
    """Turning the write-ahead log on fails at once where another does the same."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(Path(__file__).parent), f"{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for number in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in started:
        process.communicate()
    assert [process.returncode for process in started] == [0, 0, 0]
    for path in (cache / "features").glob("*.sqlite"):
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM features").fetchone() == (
                len(started) + 1,
            )


def test_a_cache_without_space(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(feature_cache.FeatureCache, "store", full)
    texts = ["one", "two"]
    asked = text_features(CountingTextTower(), texts)  # a search goes on
    np.testing.assert_array_equal(asked, CountingTextTower().encode(texts))
    with pytest.raises(SaywhereError, match=r"cannot be written .*; free disk space and run"):
        text_features(CountingTextTower(), [*map(str, range(5))])
    with pytest.raises(SaywhereError, match=r"cannot be written .*; free disk space and run"):
        image_features(CountingImageTower(), requests(make_images(tmp_path / "i", 1)), 64)
