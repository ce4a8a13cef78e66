"""Folders of images: positions from EXIF and GeoTIFF, platforms from names, links and loops."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from datafiles import SYDNEY, assert_message, gps, save_image
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from saywhere.data import read, recognise
from saywhere.data.folder import read_folder
from saywhere.errors import DatasetError, InputError
from saywhere.types import Platform


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".tif"])
def test_exif_position(tmp_path: Path, suffix: str) -> None:
    save_image(tmp_path / f"a{suffix}", exif=gps(SYDNEY[0], "S", SYDNEY[1], "E"))
    (record,) = read_folder(tmp_path).records
    assert record.lat == pytest.approx(-(33 + 51 / 60 + 35.9 / 3600), abs=1e-7)
    assert record.lon == pytest.approx(151 + 12 / 60 + 34.5 / 3600, abs=1e-7)
    assert record.platform is None


def test_exif_signs(tmp_path: Path) -> None:
    for lat_ref in "NS":
        for lon_ref in "EW":
            exif = gps((10.5, 0.0, 0.0), lat_ref, (20.25, 0.0, 0.0), lon_ref)
            save_image(tmp_path / f"{lat_ref}{lon_ref}.jpg", exif=exif)
    found = {r.image_id[:2]: (r.lat, r.lon) for r in read_folder(tmp_path).records}
    assert found == {
        "NE": (10.5, 20.25),
        "NW": (10.5, -20.25),
        "SE": (-10.5, 20.25),
        "SW": (-10.5, -20.25),
    }


@pytest.mark.parametrize(
    "exif",
    [
        gps((91.0, 0.0, 0.0), "N", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "N", (180.0, 0.0, 0.1), "E"),
        gps((IFDRational(0, 0), 0.0, 0.0), "N", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, IFDRational(1, 0)), "N", (5.0, 0.0, 0.0), "E"),
        gps((0.0, 0.0, 0.0), "N", (0.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "N", None, None),
        gps((9.0, 0.0, 0.0), None, (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "X", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "E", (5.0, 0.0, 0.0), "N"),
        gps(9.0, "N", 5.0, "E"),
        Image.Exif().tobytes(),
    ],
)
def test_broken_exif_is_no_position(tmp_path: Path, exif: bytes) -> None:
    save_image(tmp_path / "drone" / "a.jpg", exif=exif)
    (record,) = read_folder(tmp_path).records
    assert (record.lat, record.lon, record.platform) == (None, None, Platform.DRONE)


def save_geotiff(path: Path, *, crs: str | None = "EPSG:32632") -> Path:
    """40 × 20 pixels of 2 m, upper left corner at 500,000 E 5,000,000 N."""
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": 40, "height": 20, "count": 1, "dtype": "uint8"}
    origin = Affine(2, 0, 500_000, 0, -2, 5_000_000)
    with rasterio.open(path, "w", **profile, crs=crs, transform=origin) as image:
        image.write(np.zeros((1, 20, 40), np.uint8))
    return path


def utm_to_wgs84(easting: float, northing: float, central_meridian: float) -> tuple[float, float]:
    """(lat, lon) in degrees; Snyder, Map Projections (USGS 1395), equations 8-17 ff."""
    a, f, k0 = 6_378_137.0, 1 / 298.257223563, 0.9996
    e2 = f * (2 - f)
    ep2 = e2 / (1 - e2)
    mu = northing / k0 / (a * (1 - e2 / 4 - 3 * e2**2 / 64 - 5 * e2**3 / 256))
    e1 = (1 - np.sqrt(1 - e2)) / (1 + np.sqrt(1 - e2))
    phi = (
        mu
        + (3 * e1 / 2 - 27 * e1**3 / 32) * np.sin(2 * mu)
        + (21 * e1**2 / 16 - 55 * e1**4 / 32) * np.sin(4 * mu)
        + 151 * e1**3 / 96 * np.sin(6 * mu)
        + 1097 * e1**4 / 512 * np.sin(8 * mu)
    )
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    r = a * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 1.5
    t, c = np.tan(phi) ** 2, ep2 * np.cos(phi) ** 2
    d = (easting - 500_000) / (n * k0)
    lat = phi - n * np.tan(phi) / r * (d**2 / 2 - (5 + 3 * t + 10 * c) * d**4 / 24)
    lon = (d - (1 + 2 * t + c) * d**3 / 6) / np.cos(phi)
    return float(np.degrees(lat)), central_meridian + float(np.degrees(lon))


def test_geotiff_centre(tmp_path: Path) -> None:
    save_geotiff(tmp_path / "drone" / "ortho.TIF")
    (record,) = read_folder(tmp_path).records
    assert record.platform is Platform.SATELLITE  # what the file says outweighs its folder
    lat, lon = utm_to_wgs84(500_040, 4_999_980, 9.0)
    assert record.lat == pytest.approx(lat, abs=1e-6)
    assert record.lon == pytest.approx(lon, abs=1e-6)


def test_geotiff_outside_its_projection_is_satellite_without_position(tmp_path: Path) -> None:
    save_geotiff(tmp_path / "a.tif", crs="EPSG:4326")  # 500,000 degrees east
    (record,) = read_folder(tmp_path).records
    assert (record.lat, record.lon, record.platform) == (None, None, Platform.SATELLITE)


def test_tiffs_without_position(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "plain.tif")
    save_geotiff(tmp_path / "no_crs.tif", crs=None)
    (tmp_path / "damaged.tif").write_bytes(b"II*\0\xff\xff\xff\xff" + b"\1" * 50)
    (tmp_path / "empty.tiff").write_bytes(b"")
    truncated = save_geotiff(tmp_path / "truncated.tif")
    truncated.write_bytes(truncated.read_bytes()[:150])
    for record in read_folder(tmp_path).records:
        assert (record.lat, record.lon, record.platform) == (None, None, None), record.image_id
    assert capfd.readouterr() == ("", "")


def test_a_vrt_that_calls_itself_tif_is_not_followed(tmp_path: Path) -> None:
    import rasterio

    target = save_geotiff(tmp_path / "secret" / "target.tif")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "photo.tif").write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="20"><SRS>EPSG:32632</SRS>'
        "<GeoTransform>500000,2,0,5000000,0,-2</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    with rasterio.open(folder / "photo.tif") as followed:  # the danger is real
        assert followed.driver == "VRT"
    (record,) = read_folder(folder).records
    assert (record.lat, record.lon, record.platform) == (None, None, None)


def test_platform_by_folder_and_name(tmp_path: Path) -> None:
    expected = {
        "Drone/0001/a.jpg": Platform.DRONE,
        "drone/street/a.jpg": Platform.GROUND,
        "SATELLITE/a.jpg": Platform.SATELLITE,
        "ground/drone_view.jpg": Platform.GROUND,
        "0001/drone_view.jpg": Platform.DRONE,
        "0001/satellite_view.png": Platform.SATELLITE,
        "0001/Street_View.jpg": Platform.GROUND,
        "drones/a.jpg": None,
        "a.jpg": None,
    }
    for name in expected:
        save_image(tmp_path / name)
    records = read_folder(tmp_path).records
    assert {r.image_id: r.platform for r in records} == expected
    assert [r.image_id for r in records] == sorted(expected)
    assert read_folder(tmp_path / "SATELLITE").records[0].platform is Platform.SATELLITE


def test_only_visible_images_are_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.WEBP", ".hidden/d.jpg", "b/.trash/e.jpg", "b/._c.jpg"):
        save_image(tmp_path / name)
    for name in ("notes.txt", "b/list.csv", "jpg"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    dataset = read(tmp_path)
    assert (dataset.kind, dataset.source) == ("folder", tmp_path)
    assert [r.image_id for r in dataset.records] == ["a.jpg", "b/c.WEBP"]
    assert all(r.path.is_file() for r in dataset.records)


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    save_image(tmp_path / "root" / "z" / "a.jpg")
    save_image(tmp_path / "other_disk" / "b.jpg")
    root = tmp_path / "root"
    (root / "a_link_to_z").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "self").symlink_to(root / "z" / "self")
    (root / "drone").symlink_to(tmp_path / "other_disk")
    (tmp_path / "other_disk" / "back").symlink_to(root)
    assert [r.image_id for r in read_folder(root).records] == ["drone/b.jpg", "z/a.jpg"]


def test_damaged_images_stay_without_position(tmp_path: Path) -> None:
    whole = save_image(tmp_path / "a.jpg", exif=gps(SYDNEY[0], "S", SYDNEY[1], "E")).read_bytes()
    for cut in range(0, 160, 7):
        (tmp_path / f"cut{cut}.jpg").write_bytes(whole[:cut])
        (tmp_path / f"flip{cut}.jpg").write_bytes(whole[:cut] + b"\xff\xff" + whole[cut + 2 :])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    records = read_folder(tmp_path).records
    assert len(records) == 48
    assert sum(r.lat is not None for r in records) >= 1
    for record in records:
        assert (record.lat is None) == (record.lon is None)
        assert record.lat is None or -90 <= record.lat <= 90


def test_file_names_must_be_unicode(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system allows Unicode names only")
    with pytest.raises(DatasetError) as caught:
        read_folder(tmp_path)
    assert_message(caught.value, "not UTF-8", "caf")
    str(caught.value).encode()


def test_what_cannot_be_recognised(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    for path, words in (
        (tmp_path, "holds no image"),
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path / "notes.txt", "is no dataset"),
        (tmp_path / ("x" * 5000), "no such file or folder"),
    ):
        with pytest.raises(InputError) as caught:
            read(path)
        assert_message(caught.value, words)
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "absent")
    assert recognise(tmp_path) == "folder"


def test_a_folder_without_what_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(tmp_path / "a.jpg")
    save_image(tmp_path / "closed" / "b.jpg")
    listing = Path.iterdir
    closed = {tmp_path / "closed"}

    def iterdir(folder: Path) -> object:
        if folder in closed:  # tests may run as root, whom rights do not stop
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError) as caught:
        read(tmp_path)
    assert_message(caught.value, "'closed': cannot be listed (Permission denied)")
    dataset = read(tmp_path, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["a.jpg"]
    assert dataset.skipped == caught.value.problems
    closed.add(tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        read_folder(tmp_path, skip_bad=True)
