"""Large rasters and large folders: what tiling costs, and what looking again does.

    python benchmarks/raster.py [--only tiling,index,again] [--edge 20000] [--files 10000]

`tiling`: a generated GeoTIFF of 5 cm pixels is cut, and all tiles are read in one thread, against
rasterio's bare reading of the same windows, which leaves them as they are. Both in turn in one
process, with the same block cache, in CPU seconds: the file is in the page cache, and others may be
at work on the machine. `index`: the peak memory of `saywhere index` over that raster, with the
experts that come with the package. `again`: `saywhere index` over an unchanged folder of small
photos, which a cheap embedder indexed first. Everything lies in a scratch folder that goes with the
run; --toy makes it all small.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from parts.common import Line, say, table

PARTS = ("tiling", "index", "again")
BLOCK = 512
COMPRESSIONS = ("deflate", "jpeg", "cog")  # the last: deflate with overviews


@dataclass(frozen=True)
class Setting:
    """Sizes of a run."""

    scratch: Path
    edge: int
    files: int
    rounds: int


def main() -> None:
    """Run the parts and print a Markdown table."""
    options = _options()
    if options.measure:
        _measure(options.measure, options.rounds)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        os.environ["GDAL_CACHEMAX"] = "256"
        edge, files = (4200, 50) if options.toy else (options.edge, options.files)
        setting = Setting(Path(scratch), edge, files, options.rounds)
        print(table([line for part in options.only for line in PART_OF[part](setting)]), end="")


def tiling(setting: Setting) -> list[Line]:
    """Tiles a second and peak memory, by kind of compression."""
    lines = []
    for compression in COMPRESSIONS:
        with _raster(setting, compression) as path:
            found = _child("--measure", path, "--rounds", setting.rounds)
        ours, bare, small = (median(found[name]) for name in ("ours", "bare", "small"))
        count = found["tiles"]
        lines.append(
            Line(
                "tiles read",
                f"{setting.edge:,}² px, {compression}, {count} tiles, one thread",
                f"{count / ours:.1f}/s, peak {found['peak_mb']:.0f} MB",
                f"rasterio {count / bare:.1f}/s; {count / small:.1f}/s at our size",
                bare / ours,
                "0.8",
            )
        )
        say(f"tiling: {compression}: {found}")
    return lines


def index(setting: Setting) -> list[Line]:
    """Peak memory of the command line over the raster."""
    with _raster(setting, "deflate") as path:
        done = _saywhere(path.parent, setting.scratch / "tiles", "--threads", 2)
    made = json.loads(done.stdout)
    say(f"index: {done.stderr}")
    return [
        Line(
            "saywhere index",
            f"{setting.edge:,}² px, {made['read']['tiles']} tiles",
            f"{made['seconds']:.0f} s, peak {done.peak_mb:.0f} MB",
            aim="under 1,000 MB",
        )
    ]


def again(setting: Setting) -> list[Line]:
    """Seconds of the command line over an unchanged folder of small files."""
    folder = setting.scratch / "photos"
    _write_photos(folder, setting.files)
    uri = setting.scratch / "photos-index"
    _build_cheaply(folder, uri)
    seconds, made = [], {}
    for _ in range(setting.rounds):
        started = time.perf_counter()
        done = _saywhere(folder, uri)
        seconds.append(time.perf_counter() - started)
        made = json.loads(done.stdout)
        if (made["embedded"], made["unchanged"]) != (0, setting.files):
            raise SystemExit(f"again: not unchanged: {made}")
    say(f"again: {seconds} s, of which the update {made['seconds']:.2f} s")
    return [
        Line(
            "re-index, unchanged",
            f"{setting.files:,} photos, nothing embedded",
            f"{median(seconds):.2f} s (of {', '.join(f'{s:.2f}' for s in seconds)})",
            aim="under 5 s",
        )
    ]


PART_OF = {"tiling": tiling, "index": index, "again": again}


@contextmanager
def _raster(setting: Setting, compression: str) -> Iterator[Path]:
    """A generated orthophoto, written block row by block row: fields and noise."""
    import rasterio

    path = setting.scratch / compression / "ortho.tif"
    path.parent.mkdir(exist_ok=True)
    started, edge = time.perf_counter(), setting.edge
    rng = np.random.default_rng(0)
    fields = rng.integers(40, 200, (edge // 400 + 1, edge // 400 + 1, 3), np.uint8)
    profile = {"compress": "deflate", "predictor": 2, "zlevel": 1}
    if compression == "jpeg":
        profile = {"compress": "jpeg", "photometric": "YCBCR"}
    with rasterio.open(
        path, "w", driver="GTiff", width=edge, height=edge, count=3, dtype="uint8",
        crs="EPSG:32632", transform=rasterio.Affine(0.05, 0, 649_188, 0, -0.05, 5_318_236),
        tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
        interleave="pixel", **profile,
    ) as file:  # fmt: skip
        for top in range(0, edge, BLOCK):
            rows = min(BLOCK, edge - top)
            strip = fields[(top + np.arange(rows)) // 400][:, np.arange(edge) // 400]
            strip += rng.integers(0, 48, (rows, edge, 1), np.uint8)
            file.write(np.moveaxis(strip, 2, 0), window=((top, top + rows), (0, edge)))
    if compression == "cog":
        with rasterio.open(path, "r+", driver="GTiff") as file:
            file.build_overviews([2, 4, 8])
    size = path.stat().st_size / 1e6
    say(f"{path.name}: {size:.0f} MB {compression} in {time.perf_counter() - started:.0f} s")
    try:
        yield path
    finally:
        path.unlink()


def _measure(path: Path, rounds: int) -> None:
    """In a process of its own: CPU seconds of each way, and the peak memory after ours alone."""
    import rasterio

    from saywhere.data.raster import tile_records
    from saywhere.rasters import raster_reader
    from saywhere.types import Record, Tiling

    tiled = tile_records([Record("ortho.tif", path)], Tiling())
    windows = [record.window for record in tiled.records if record.window]
    sizes = []

    def ours() -> None:
        with raster_reader() as reader:
            sizes[:] = [reader.read(path, window).size for window in windows]

    def bare(*, small: bool = False) -> None:
        with rasterio.open(path, driver="GTiff") as file:
            for window, (width, height) in zip(windows, sizes, strict=True):
                part = rasterio.windows.Window(
                    window.column, window.row, window.width, window.height
                )
                shape = {"out_shape": (3, height, width)} if small else {}
                file.read([1, 2, 3], window=part, **shape)

    jobs = {"ours": ours, "bare": bare, "small": lambda: bare(small=True)}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    peak = 0.0
    for _ in range(rounds):
        for name, job in jobs.items():
            started = time.process_time()
            job()
            seconds[name].append(time.process_time() - started)
            peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**seconds, "tiles": len(windows), "peak_mb": peak}))


def _write_photos(folder: Path, count: int) -> None:
    """Small JPEGs with a position, old enough to be believed."""
    from PIL import Image
    from PIL.ExifTags import GPS, IFD

    started = time.perf_counter()
    for number in range(count):
        path = folder / f"flight{number // 500:03d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        place = exif.get_ifd(IFD.GPSInfo)
        place[GPS.GPSLatitudeRef], place[GPS.GPSLongitudeRef] = "N", "E"
        place[GPS.GPSLatitude], place[GPS.GPSLongitude] = (
            (48.0, 8.0, 1.0),
            (11.0, 5.0, number / 500),
        )
        colour = (number % 256, number // 256, 7)
        Image.new("RGB", (32, 24), colour).save(path, exif=exif)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    say(f"{count} photos in {time.perf_counter() - started:.0f} s")


def _build_cheaply(folder: Path, uri: Path) -> None:
    """An index of the packaged experts' hash and dimension whose vectors are noise."""
    from saywhere.bundle import load_experts
    from saywhere.data import read
    from saywhere.embed import EmbeddedImages
    from saywhere.files import hash_file
    from saywhere.index import Embedder, update_index
    from saywhere.manifest import SHIPPED
    from saywhere.types import Embeddings, Record

    experts = load_experts(SHIPPED)

    def embed(records: Sequence[Record]) -> EmbeddedImages:
        vectors = np.random.default_rng(0).standard_normal((len(records), 772), np.float32)
        made = Embeddings(tuple(r.image_id for r in records), vectors, experts.hash)
        return EmbeddedImages(made, tuple(hash_file(r.path) for r in records))

    by = Embedder(experts.hash, str(SHIPPED.resolve()), embed)
    update_index(by, read(folder).records, folder, str(uri))


@dataclass(frozen=True)
class _Done:
    stdout: str
    stderr: str
    peak_mb: float


def _saywhere(folder: Path, uri: Path, *options: object) -> _Done:
    """`saywhere index --json` in a process of its own, with its peak memory."""
    from saywhere.manifest import SHIPPED

    script = (
        "import atexit, resource, sys\n"
        "from saywhere.cli import main\n"
        "atexit.register(lambda: print(\n"
        "    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script, "index", folder, "--experts", SHIPPED, "--index",
               uri, "--json", *options]  # fmt: skip
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    *told, peak = done.stderr.strip().splitlines()
    return _Done(done.stdout, "; ".join(told), int(peak) / 1024)


def _child(*arguments: object) -> dict[str, list[float]]:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("tiling: failed")
    return dict(json.loads(done.stdout))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=_parts, default=PARTS, metavar="PART,…")
    parser.add_argument("--edge", type=int, default=20_000, help="pixels of the raster")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="where the scratch folder is made")
    parser.add_argument("--toy", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    for part in text.split(","):
        if part not in PARTS:
            raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(PARTS)}")
    return tuple(text.split(","))


if __name__ == "__main__":
    main()
