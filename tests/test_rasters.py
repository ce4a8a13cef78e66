"""Windows of GeoTIFFs come back as the RGB that is in them, whatever they are stored as."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geotiffs import noise, write_raster
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from saywhere.errors import ImageError
from saywhere.images import BACKDROP
from saywhere.rasters import RasterReader, raster_reader, read_part
from saywhere.types import Window

ALL = Window(0, 0, 64, 48)


def read(path: Path, window: Window = ALL) -> NDArray[np.uint8]:
    """(rows, columns, 3)."""
    return np.asarray(read_part(path, window))


def rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.moveaxis(pixels, 0, 2)


def test_eight_bit_colours_are_as_they_are(tmp_path: Path) -> None:
    pixels = noise(3, 300, 400)
    path = write_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    found = read(path, Window(37, 101, 90, 150))
    np.testing.assert_array_equal(found, rgb(pixels[:, 101:251, 37:127]))


def test_one_band_is_grey_and_further_bands_are_left_out(tmp_path: Path) -> None:
    pixels = noise(5, 48, 64)
    found = read(write_raster(tmp_path / "grey.tif", pixels[:1]))
    np.testing.assert_array_equal(found, rgb(np.repeat(pixels[:1], 3, 0)))
    found = read(write_raster(tmp_path / "five.tif", pixels, photometric="MINISBLACK"))
    np.testing.assert_array_equal(found, rgb(pixels[:3]))


def test_colours_are_found_by_their_names(tmp_path: Path) -> None:
    pixels = noise(4, 48, 64)
    names = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    found = read(write_raster(tmp_path / "bgr.tif", pixels, colorinterp=names))
    np.testing.assert_array_equal(found, rgb(pixels[[3, 2, 1]]))


def test_palette_bits_and_many_bits(tmp_path: Path) -> None:
    indices = np.arange(48 * 64).reshape(1, 48, 64) % 2
    colours = {0: (10, 20, 30, 255), 1: (200, 100, 50, 255)}
    path = write_raster(tmp_path / "palette.tif", indices.astype(np.uint8), colormap=colours)
    assert {tuple(colour) for colour in read(path).reshape(-1, 3)} == {
        (10, 20, 30),
        (200, 100, 50),
    }
    path = write_raster(tmp_path / "bits.tif", indices.astype(np.uint8), nbits=1)
    np.testing.assert_array_equal(read(path)[..., 0], 255 * indices[0])


def empty_left(kind: str, pixels: NDArray[Any], path: Path) -> Path:
    """The left half has no data, told in one of GDAL's ways."""
    shown = np.zeros(pixels.shape[1:], np.uint8)
    shown[:, pixels.shape[2] // 2 :] = 255
    if kind == "alpha":
        return write_raster(
            path, np.concatenate([pixels, shown[None]]), photometric="RGB", alpha="YES"
        )
    if kind == "mask":
        return write_raster(path, pixels, mask=shown)
    values = np.where(shown > 0, np.maximum(pixels, 1), 0).astype(pixels.dtype)
    return write_raster(path, values, nodata=0)


@pytest.mark.parametrize("kind", ["alpha", "mask", "nodata"])
def test_no_data_is_grey(kind: str, tmp_path: Path) -> None:
    pixels = np.maximum(noise(3, 48, 64), 1)
    found = read(empty_left(kind, pixels, tmp_path / "a.tif"))
    assert (found[:, :32] == BACKDROP).all()
    np.testing.assert_array_equal(found[:, 32:], rgb(pixels)[:, 32:])


def test_more_bits_are_scaled_once_for_the_whole_raster(tmp_path: Path) -> None:
    """A dark tile stays dark, and colours keep their balance."""
    ramp = np.linspace(1000, 9000, 2048 * 64).reshape(64, 2048)
    pixels = np.stack([ramp, ramp / 2, ramp / 4]).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", pixels)
    with raster_reader() as reader:
        dark, light = (
            np.asarray(reader.read(path, Window(0, row, 64, 8)), np.float64) for row in (2, 54)
        )
    assert dark.mean() + 60 < light.mean()
    reds, blues = light[..., 0].mean(), light[..., 2].mean()
    low, high = np.percentile(pixels, (1, 99))
    expected = (pixels[:, 54:62, :64].mean((1, 2)) - low) * 255 / (high - low)
    assert [reds, blues] == pytest.approx([expected[0], expected[2]], abs=3)


def test_floats_and_what_is_no_number(tmp_path: Path) -> None:
    pixels = np.linspace(-3, 3, 48 * 64, dtype=np.float32).reshape(1, 48, 64)
    pixels[:, :, :10] = np.nan
    pixels[:, 5, 20] = np.inf
    found = read(write_raster(tmp_path / "a.tif", pixels))
    assert (found[:, :10] == BACKDROP).all()
    assert found[0, 11:].mean() < 20
    assert found[-1, 11:].mean() > 235


@pytest.mark.parametrize("overviews", [None, [2, 4]])
def test_a_large_window_is_read_smaller(tmp_path: Path, overviews: list[int] | None) -> None:
    pixels = noise(3, 1700, 1600)
    path = write_raster(
        tmp_path / "a.tif", pixels, tiled=True, compress="deflate", overviews=overviews
    )
    found = read(path, Window(0, 0, 1600, 1600))
    assert found.shape == (800, 800, 3)
    means = rgb(pixels)[:1600, :1600].reshape(800, 2, 800, 2, 3).mean((1, 3))
    # Overviews are GDAL's, by nearest neighbour here; blocks of 8 pixels are the same in both.
    assert abs(found - means).mean() < 1


@pytest.mark.parametrize("most", [1 << 23, 800 * 700])
def test_a_huge_window_is_read_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """GDAL then takes part of the means, or all of them."""
    monkeypatch.setattr("saywhere.raster_bands._MOST_PIXELS", most)
    pixels = noise(1, 3072, 3200)
    pixels[:, :768] = 0
    found = read(write_raster(tmp_path / "a.tif", pixels, nodata=0), Window(0, 0, 3200, 3072))
    assert found.shape == (768, 800, 3)
    assert (found[:191] == BACKDROP).all()
    means = pixels[0].reshape(768, 4, 800, 4).mean((1, 3))
    assert abs(found[193:, :, 1] - means[193:]).mean() < 1.5


def test_threads_share_a_reader(tmp_path: Path) -> None:
    pixels = [noise(3, 128, 128, seed=seed) for seed in range(5)]
    paths = [write_raster(tmp_path / f"{n}.tif", p) for n, p in enumerate(pixels)]
    jobs = [(n, column) for column in (0, 32, 64) for n in range(5)] * 4
    with raster_reader() as reader, ThreadPoolExecutor(4) as pool:
        windows = [Window(column, 7, 50, 60) for _, column in jobs]
        found = pool.map(reader.read, [paths[n] for n, _ in jobs], windows)
        for (n, column), image in zip(jobs, found, strict=True):
            expected = rgb(pixels[n][:, 7:67, column : column + 50])
            np.testing.assert_array_equal(np.asarray(image), expected)
        assert len(reader._opened) <= 4 * 2


def test_files_are_closed(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{n}.tif", noise(3, 48, 64)) for n in range(6)]

    def opened() -> int:
        links = list(Path("/proc/self/fd").iterdir())
        return sum(link.exists() and link.resolve().parent == tmp_path for link in links)

    with raster_reader() as reader:
        for path in paths:
            reader.read(path, ALL)
        assert 1 <= opened() <= 2
    assert opened() == 0


def test_complex_numbers_are_no_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((1, 48, 64), np.complex64))
    with pytest.raises(ImageError, match=r"a\.tif: its bands are no colours; export it as RGB"):
        read(path)


@pytest.mark.parametrize("window", [Window(1, 0, 64, 48), Window(-1, 0, 9, 9), Window(0, 0, 0, 4)])
def test_a_window_outside_is_refused(tmp_path: Path, window: Window) -> None:
    path = write_raster(tmp_path / "a.tif", noise(3, 48, 64))
    with pytest.raises(ImageError, match=r"has 64 x 48 pixels and no part of .*index it again"):
        read(path, window)


def test_a_damaged_part_is_one_line_and_the_rest_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = noise(3, 512, 512)
    path = write_raster(
        tmp_path / "a.tif", pixels, tiled=True, blockxsize=256, blockysize=256, compress="deflate"
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    reader = RasterReader()
    with pytest.raises(ImageError, match=r"a\.tif: its part at 256,256 cannot be read") as caught:
        reader.read(path, Window(256, 256, 100, 100))
    assert "\n" not in str(caught.value)
    found = reader.read(path, Window(0, 0, 200, 200))
    np.testing.assert_array_equal(np.asarray(found), rgb(pixels[:, :200, :200]))
    reader.close()
    assert capfd.readouterr() == ("", "")


def vrt(target: Path, width: int = 64, height: int = 48) -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{target}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    size = f'rasterXSize="{width}" rasterYSize="{height}"'
    return f"<VRTDataset {size}>{bands}</VRTDataset>"


def test_a_vrt_named_tif_is_refused(tmp_path: Path) -> None:
    target = write_raster(tmp_path / "secret/target.tif", noise(3, 48, 64))
    (tmp_path / "a.tif").write_text(vrt(target))
    with pytest.raises(ImageError, match=r"a\.tif: its part at 0,0 cannot be read"):
        read(tmp_path / "a.tif")


def test_files_beside_it_are_not_looked_at(tmp_path: Path) -> None:
    """Overviews of GDAL may be any file it can open, and the hash would not cover them."""
    import rasterio

    secret = write_raster(tmp_path / "secret/target.tif", np.full((3, 800, 800), 7, np.uint8))
    path = write_raster(tmp_path / "a.tif", np.full((3, 1600, 1600), 200, np.uint8))
    for content in (vrt(secret, 800, 800).encode(), secret.read_bytes()):
        (tmp_path / "a.tif.ovr").write_bytes(content)
        assert (read(path, Window(0, 0, 1600, 1600)) == 200).all()
    with rasterio.open(path, driver="GTiff") as followed:  # else this would prove nothing
        assert followed.overviews(1) == [2]
        assert followed.read(1, out_shape=(800, 800)).max() == 7
