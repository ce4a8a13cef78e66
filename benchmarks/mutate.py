"""Break one line at a time and see whether the tests notice: a table of what was killed.

    python benchmarks/mutate.py [--only WORD,WORD]

Each mutation is applied to a copy of the package in a temporary folder, and the test files that
should notice run against it. A mutation that survives is a test that is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 300


@dataclass(frozen=True, slots=True)
class Mutation:
    """One line made wrong.

    Attributes:
        what: what it breaks, in words.
        file: module below ``saywhere``.
        old, new: the text and what replaces it; ``old`` must stand in the file exactly once.
        tests: names of test files without ``test_`` and suffix, separated by blanks.
    """

    what: str
    file: str
    old: str
    new: str
    tests: str


# fmt: off
MUTATIONS = (
    Mutation("same-place pairs are pushed apart", "losses.py",
             "~(same_place | same_caption)", "~same_caption", "losses"),
    Mutation("equal captions are pushed apart", "losses.py",
             "~(same_place | same_caption)", "~same_place", "losses"),
    Mutation("only the first caption of an image is masked", "losses.py",
             "image_codes[None, :, :]).any(-1)", "image_codes[None, :, :])[..., 0]", "losses"),
    Mutation("the mask is turned around in image to text", "losses.py",
             "_cross_entropy(logits.T, counted.T,", "_cross_entropy(logits.T, counted,", "losses"),
    Mutation("smoothing spreads over masked pairs", "losses.py",
             "/ counted.sum(1)", "/ counted.shape[1]", "losses"),
    Mutation("mining: a row off in every chunk but the first", "mining.py",
             "similarity[rows - start, rows]", "similarity[rows - start, rows - start]", "mining"),
    Mutation("mining: the margin's sign", "mining.py",
             "positive - relative_margin", "positive + relative_margin", "mining"),
    Mutation("mining: the margin of a negative similarity", "mining.py",
             "np.abs(positive)", "positive", "mining"),
    Mutation("mining: same-place candidates", "mining.py",
             "np.asarray(same_place | same_caption", "np.asarray(same_caption", "mining"),
    Mutation("mining: ties by chance", "mining.py",
             'kind="stable")][:k]', 'kind="stable")][::-1][:k]', "mining"),
    Mutation("mining: one negative too few", "mining.py",
             "np.partition(scores, -kept, axis=1)[:, -kept]",
             "np.partition(scores, -kept, axis=1)[:, -max(1, kept - 1)]", "mining"),
    Mutation("metrics: ties in our favour", "metrics.py",
             "(scores >= best[:, None])", "(scores > best[:, None])", "metrics"),
    Mutation("metrics: average precision, ties in our favour", "metrics.py",
             'side="left")', 'side="right")', "metrics"),
    Mutation("metrics: recall within k - 1", "metrics.py",
             "(ranks <= k)", "(ranks < k)", "metrics"),
    Mutation("metrics: a NaN positive is found", "metrics.py",
             "np.where(np.isnan(best), scores.shape[1], ahead)", "ahead", "metrics"),
    Mutation("fusion: an unlikely platform is rewarded", "fusion.py",
             "+ calibration.prior_weight * log_prior", "- calibration.prior_weight * log_prior",
             "fusion"),
    Mutation("fusion: the prior is multiplied in, not added in logs", "fusion.py",
             "np.float32) + calibration.prior_weight * log_prior",
             "np.float32) * (1 + calibration.prior_weight * log_prior)", "fusion"),
    Mutation("fusion: hubness is added", "fusion.py", "else -hubness", "else hubness", "fusion"),
    Mutation("fusion: gates are not normalised", "fusion.py",
             "probability / probability.sum(1, keepdims=True)", "probability", "fusion"),
    Mutation("match: a larger gallery is believed as much", "match.py",
             "/ totals.count, ", ", ", "match search_matches"),
    Mutation("match: the prior of none is left out", "match.py",
             "np.log(none_share) + offset", "offset", "match search_matches"),
    Mutation("match: no share of the evidence is stray", "match.py",
             "likely + sharpness.stray", "likely", "match search_matches"),
    Mutation("match: sums of earlier blocks keep their scale", "products.py",
             "self._exponentials *= np.exp(fallen)", "pass", "search_matches"),
    Mutation("match: the largest scores are summed as rounded", "products.py",
             "approximate[rows, columns] = scores", "pass", "search_matches"),
    Mutation("search: ties in reverse", "search.py",
             'np.argsort(-scores[best], kind="stable")', "np.argsort(scores[best])[::-1]",
             "search"),
    Mutation("an index takes another expert's queries", "search.py",
             "require_experts(info, queries.expert_hash)", "pass", "search"),
    Mutation("batches: a subset takes other items' views", "batches.py",
             "taken[-1]) + shift", "taken[-1])", "batches"),
    Mutation("files: written in place, not renamed", "files.py",
             "temporary.replace(path)", "path.write_bytes(temporary.read_bytes())", "files"),
    Mutation("files: a failed block leaves its draft", "files.py",
             "temporary.unlink(missing_ok=True)", "pass", "files"),
    Mutation("paths: '..' leaves the images folder", "data/source.py",
             '(".." in parts,', "(False,", "geotext track4 table rsicd"),
    Mutation("paths: absolute ones are followed", "data/source.py",
             "_ABSOLUTE.match(name) is not None", "False", "geotext track4 table rsicd"),
    Mutation("a VRT under the name of a TIFF is followed", "data/folder.py",
             'rasterio.open(path.absolute(), driver="GTiff")', "rasterio.open(path.absolute())",
             "folder"),
    Mutation("EXIF: the western hemisphere becomes the eastern", "data/exif.py",
             "size if letter == signs[0] else -size", "size", "folder"),
    Mutation("features: kept under the hash of other bytes", "decoding.py",
             "if hash_bytes(content) != request.content_hash:", "if False:", "features"),
    Mutation("index: what became unreadable is forgotten", "store/changes.py",
             "kept=self.kept if prune else {**self.kept, **held}", "kept=self.kept", "skip_bad"),
    Mutation("index: what the dataset left out is deleted", "store/changes.py",
             "incomplete and known and", "False and", "skip_bad"),
    Mutation("index: an unmounted folder is deleted", "store/changes.py",
             "any(hollow(place) for place in places)", "False", "index"),
    Mutation("index: the manifest is written in place", "store/generations.py",
             "draft.replace(folder / MANIFEST)",
             "(folder / MANIFEST).write_bytes(draft.read_bytes())", "index store"),
    Mutation("index: a file changed within the clock's tick is trusted", "store/changes.py",
             "YOUNG_NS = 3_000_000_000", "YOUNG_NS = -3_000_000_000", "index"),
    Mutation("readers: captions of images that are left out stay", "data/scan.py",
             "tuple(c for c in self.captions if c.image_id not in self.missing)",
             "self.captions",
             "geotext track4 table rsicd"),
    Mutation("tables: a quote that is never closed swallows the rest", "data/table.py",
             "delimiter=delimiter, strict=True)", "delimiter=delimiter, strict=False)", "table"),
    Mutation("GeoTIFF: half a pixel off", "data/folder.py",
             "width / 2, height / 2", "(width - 1) / 2, (height - 1) / 2", "folder"),
    Mutation("features: sizes share a row of the cache", "features.py",
             'f"{tower.fingerprint}:{size}"', 'f"{tower.fingerprint}"', "features"),
    Mutation("experts: altered towers are taken", "manifest.py",
             "hash_file(path) != expected.sha256", "False", "bundle"),
    Mutation("intervals: queries are drawn, not places", "bootstrap.py",
             "names, groups = np.unique(labels, return_inverse=True)",
             "names, groups = np.unique(labels), np.arange(len(labels))", "metrics"),
    Mutation("images: the scans of a JPEG are not counted", "images.py",
             "if scans > 1 and scans", "if scans < 0 and scans", "images"),
    Mutation("images: pixels that no strip holds", "images.py",
             "if boxes and covered <", "if not boxes and covered <", "images"),
    Mutation("images: upright only in name", "images.py",
             "ImageOps.exif_transpose(image, in_place=True)", "pass", "images"),
    Mutation("footprints: roll to the other side", "footprints.py",
             "sr, cr = math.sin(roll)", "sr, cr = -math.sin(roll)", "footprints"),
    Mutation("footprints: pitch up is down", "footprints.py",
             "sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch)",
             "sp, cp = math.sin(yaw), math.cos(yaw), -math.sin(pitch)", "footprints"),
    Mutation("footprints: whole angles of view for half ones", "footprints.py",
             "right *= math.tan(math.radians(hfov) / 2)", "right *= math.tan(math.radians(hfov))",
             "footprints"),
    Mutation("footprints: a pole inside is left outside", "footprints.py",
             "if abs(back - path[0][1]) > 180:", "if abs(back - path[0][1]) > 999:", "footprints"),
    Mutation("footprints: the antimeridian cuts nothing off", "footprints.py",
             "> 180:\n        points", "> 999:\n        points", "footprints"),
    Mutation("XMP: document types are let in", "data/xmp.py",
             "parser.StartDoctypeDeclHandler = _refuse_doctype", "pass", "photo"),
    Mutation("XMP: packets of any length", "data/xmp.py",
             "if len(packet) > MAX_BYTES:", "if False:", "photo"),
    Mutation("XMP: nested for ever", "data/xmp.py",
             "if self.depth > _DEEPEST:", "if False:", "photo"),
    Mutation("photos: XMP stands whatever EXIF says", "data/photo.py",
             "if apart <= _AGREE_M:", "if True:", "photo"),
    Mutation("photos: handheld cameras fly", "data/photo.py",
             "if any(word in model for word in _HANDHELD_WORDS):", "if False:", "photo"),
    Mutation("photos: phones outweigh folders", "data/folder.py",
             "photo.platform or _platform(root, image_id) or photo.likely_platform",
             "photo.platform or photo.likely_platform or _platform(root, image_id)", "photo"),
    Mutation("EXIF: time zones the wrong way", "data/exif.py",
             "(clock - zone).replace", "(clock + zone).replace", "photo"),
    Mutation("EXIF: a stale receiver is believed", "data/exif.py",
             "abs(received - clock) <= _FURTHEST_ZONE", "True", "photo"),
    Mutation("EXIF: a header without end is kept", "data/exif.py",
             "if self.left < 0:", "if False:", "photo"),
    Mutation("platforms: the first rule wins", "data/platforms.py",
             "reversed(rules)", "rules", "photo"),
    Mutation("geometries: latitude first", "data/geometry.py",
             "lon, lat = (_finite", "lat, lon = (_finite", "geotables"),
    Mutation("tables: another polygon of one image passes", "data/rows.py",
             "if record.footprint not in (None, first.footprint):", "if False:", "geotables"),
    Mutation("GeoParquet of any CRS", "data/parquet.py",
             'if crs != "absent" and named', 'if False and named', "geotables"),
    Mutation("hrefs lead out of their roots", "data/hrefs.py",
             "if not any(path.is_relative_to(root) for root in roots):", "if False:", "stac"),
    Mutation("hrefs follow links out of their roots", "data/hrefs.py",
             "path = Path(os.path.realpath(folder / spelling))",
             "path = Path(os.path.normpath(folder / spelling))", "stac"),
    Mutation("hrefs: any host is asked", "data/hrefs.py",
             'if f"{host}:{port}" not in names and', "if False and", "stac"),
    Mutation("fetching: redirects lead anywhere", "data/fetch.py",
             "check_host(parts, self.hrefs)", "pass", "stac"),
    Mutation("fetching: files of any size", "data/fetch.py",
             "if size > max_bytes:", "if False:", "stac"),
    Mutation("fetching: as slow as one likes", "data/fetch.py",
             "if time.monotonic() > deadline:", "if False:", "stac"),
    Mutation("fetching: what was cut short is kept", "data/fetch.py",
             "if answer.length:  #", "if False:  #", "stac"),
    Mutation("STAC: one id for two items", "data/stac.py",
             "if image_id in self.records:", "if False:", "stac"),
    Mutation("STAC: thumbnails beside the images", "data/stac.py",
             'if not roles & {"metadata", *_PREVIEWS}', 'if not roles & {"metadata"}', "stac"),
)
# fmt: on


def main() -> None:
    """Run the mutations, print a Markdown row as each is decided."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="Only what holds one of these, by commas.")
    chosen = parser.parse_args().only
    rows = [m for m in MUTATIONS if any(part in f"{m.what} {m.file}" for part in chosen.split(","))]
    print("| module | what is broken | tests | |\n|---|---|---|---|", flush=True)
    names = sorted({name for mutation in rows for name in mutation.tests.split()})
    control = Mutation(
        "nothing", "types.py", "PLATFORMS: tuple", "PLATFORMS: tuple", " ".join(names)
    )
    with _copy() as folder:
        if (outcome := _outcome(control, folder)) != "**survived**":
            sys.exit(f"the tests fail without any mutation ({outcome}); mend them first")
    survived = 0
    for mutation in rows:
        with _copy() as folder:
            outcome = _outcome(mutation, folder)
        survived += outcome != "killed"
        tests = ", ".join(f"`test_{name}`" for name in mutation.tests.split())
        row = (f"`{mutation.file}`", mutation.what, tests, outcome)
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{len(rows) - survived} of {len(rows)} killed.")
    sys.exit(1 if survived else 0)


def _copy() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="saywhere-mutation-")
    for name in ("saywhere", "tests"):
        shutil.copytree(
            ROOT / name, Path(folder.name) / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", folder.name)
    return folder


def _outcome(mutation: Mutation, folder: str) -> str:
    path = Path(folder) / "saywhere" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        return f"does not apply: {text.count(mutation.old)} places"
    path.write_text(text.replace(mutation.old, mutation.new))
    tests = [f"tests/test_{name}.py" for name in mutation.tests.split()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    # 1: tests failed. Anything else (no such test, a syntax error) proves nothing.
    named = {0: "**survived**", 1: "killed"}
    return named.get(done.returncode, f"broken run: {_last(done.stdout.splitlines())}")


def _last(lines: list[str]) -> str:
    found: Iterator[str] = (line for line in reversed(lines) if line.strip())
    return next(found, "no output")


if __name__ == "__main__":
    main()
