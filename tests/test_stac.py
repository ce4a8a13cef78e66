"""STAC items: which assets become images, and that hrefs lead nowhere but where they may."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from drone_photos import jpeg
from fuzz.limits import command
from test_fuzz_images import Tower

from saywhere.data import read, recognise
from saywhere.data.fetch import fetch
from saywhere.data.hrefs import Hrefs
from saywhere.data.stac import read_stac
from saywhere.errors import DatasetError, InputError
from saywhere.files import hash_bytes
from saywhere.store import open_writer
from saywhere.types import Footprint, Platform, Record

PICTURE = jpeg()
JPEG = "image/jpeg"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
SQUARE = {"type": "Polygon", "coordinates": [[[10, 1], [12, 1], [12, 3], [10, 3], [10, 1]]]}
GROUND = Footprint((((1.0, 10.0), (1.0, 12.0), (3.0, 12.0), (3.0, 10.0)),), approximate=False)


def item(assets: Any, item_id: Any = "S2A", geometry: Any = SQUARE, **properties: Any) -> Any:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": geometry,
        "bbox": [10, 1, 12, 3],
        "properties": {"datetime": "2025-06-01T09:30:00.024Z", **properties},
        "links": [],
        "assets": assets,
    }


def asset(href: Any, kind: str = JPEG, *roles: str) -> dict[str, Any]:
    return {"href": href, "type": kind, **({"roles": list(roles)} if roles else {})}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def collection(path: Path, *items: Any) -> Path:
    return write(path, {"type": "FeatureCollection", "features": list(items)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("root/a.jpg", "root/b c.jpg", "root/sub/d.jpg", "secret.jpg", "other/o.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PICTURE)
    return tmp_path / "root"


def problems(path: Path, hrefs: Hrefs) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        read(path, hrefs=hrefs)
    for problem in caught.value.problems:
        assert "\n" not in problem
        assert "; " in problem, problem
    return caught.value.problems


def test_an_item_and_a_collection(folder: Path) -> None:
    first = item({"visual": asset("./a.jpg"), "B02": asset("sub/d.jpg")})
    second = item({"image": asset("b%20c.jpg")}, "uav-7", platform="Acme UAV", datetime=None,
                  start_datetime="2025-06-01T09:30:00.024+00:00", instruments=["x"])  # fmt: skip
    path = collection(folder / "items.json", first, second)
    dataset = read(path)
    assert (dataset.kind, recognise(path)) == ("stac", "stac")
    when = datetime(2025, 6, 1, 9, 30, 0, 24_000, tzinfo=UTC)
    records = dataset.records
    assert [record.image_id for record in records] == ["S2A/visual", "uav-7/image"]
    assert [record.path for record in records] == [folder / "a.jpg", folder / "b c.jpg"]
    assert [record.platform for record in records] == [Platform.SATELLITE, Platform.DRONE]
    for record in records:
        assert (record.footprint, record.taken) == (GROUND, when)
        assert (record.lat, record.lon) == pytest.approx((2, 11), abs=1e-3)
    assert read(write(folder / "one.json", first)).records == records[:1]


ASSETS: list[tuple[Mapping[str, Any], list[str]]] = [
    ({"B02": asset("a.jpg", COG), "B03": asset("a.jpg", COG)}, ["B02", "B03"]),
    ({"visual": asset("a.jpg", COG), "B03": asset("a.jpg", COG, "data")}, ["visual"]),
    ({"rgb": asset("a.jpg", COG, "data", "visual"), "B03": asset("a.jpg", COG)}, ["rgb"]),
    ({"x": asset("a.jpg", JPEG, "data"), "thumbnail": asset("a.jpg")}, ["x"]),
    ({"thumbnail": asset("a.jpg"), "overview": asset("a.jpg"), "m": asset("a", "text/xml")},
     ["overview"]),
    ({"thumbnail": asset("a.jpg"), "m": asset("a.jpg", JPEG, "metadata")}, ["thumbnail"]),
    ({"x": {"href": "a.JPG?x=1"}, "y": {"href": "a.txt"}}, ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("assets", "keys"), ASSETS)
def test_which_assets_are_images(folder: Path, assets: Mapping[str, Any], keys: list[str]) -> None:
    (folder / "a.JPG?x=1").write_bytes(PICTURE)
    records = read(write(folder / "i.json", item(assets))).records
    assert [record.image_id for record in records] == [f"S2A/{key}" for key in keys]


def test_a_folder_of_a_static_catalogue(folder: Path) -> None:
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": []}
    write(folder / "catalog.json", catalogue)
    write(folder / "one/one.json", item({"image": asset("../a.jpg")}, "one"))
    write(folder / "two/two.json", item({"image": asset("../../secret.jpg")}, "two"))
    write(folder / "two/notes.json", {"a": 1})
    assert recognise(folder) == "stac"
    dataset = read(folder, skip_bad=True)
    assert dataset.records[0].path == folder / "a.jpg"
    assert len(dataset.records) == 1
    assert [line.partition(": ")[0] for line in dataset.skipped] == [
        "'two/notes.json'", "'two/two.json' ('two/image')",
    ]  # fmt: skip
    with pytest.raises(InputError, match="is a STAC 'Catalog'; name an item"):
        read(folder / "catalog.json")
    (folder / "catalog.json").write_text("{}")
    assert recognise(folder) == "folder"


BAD: list[tuple[Any, str]] = [
    (item({"a": asset("gone.jpg")}), "there is no file"),
    (item({"a": asset("../secret.jpg")}), "leads out of"),
    (item({"a": asset("sub/../../secret.jpg")}), "leads out of"),
    (item({"a": asset("%2e%2e/secret.jpg")}), "leads out of"),
    (item({"a": asset("/etc/passwd")}), "leads out of"),
    (item({"a": asset("file:///etc/passwd")}), "leads out of"),
    (item({"a": asset("FILE:///etc/passwd")}), "leads out of"),
    (item({"a": asset("file://server/share/a.jpg")}), "another computer"),
    (item({"a": asset("link.jpg")}), "leads out of"),
    (item({"a": asset("s3://bucket/a.tif")}), "scheme 's3' cannot be followed"),
    (item({"a": asset("javascript:alert(1)")}), "cannot be followed"),
    (item({"a": asset("https://example.com/a.jpg?sig=SECRET")}), "not configured"),
    (item({"a": asset("http://u:SECRET@example.com/a.jpg")}), "has a user in it"),
    (item({"a": asset("http://[::1/a.jpg")}), "is no address"),
    (item({"a": asset("http://example.com:99999/a.jpg")}), "is no address"),
    (item({"a": asset("http:///a.jpg")}), "is no address"),
    (item({"a": asset("a\0.jpg")}), "is no path"),
    (item({"a": asset("a%00.jpg")}), "there is no file"),
    (item({"a": asset("\ud800.jpg")}), "is no path"),
    (item({"a": asset(" ")}), "is no path"),
    (item({"a": asset(7)}), "is no text"),
    (item({"a": asset("a.jpg"), "\ud800": asset("a.jpg")}), "half a character"),
    (item({"a": asset("a.jpg")}, 7), "id 7 is none"),
    (item({"a": asset("a.jpg")}, "x" * 501), "is none; give it a short text"),
    (item({"a": asset("a.jpg")}, "sound"), "was there before"),
    (item({"a": asset("a.jpg")}, datetime="soon"), "is no time"),
    (item({"a": asset("a.jpg")}, datetime=7), "is no time"),
    (item({"a": asset("a.jpg")}, geometry={"type": "Point", "coordinates": [0, 99]}), "WGS84"),
    (item({"a": asset("a.jp2", "image/jp2")}), "no asset that is an image"),
    (item({}), "no asset that is an image"),
    (item([]), "no properties or no assets"),
    ({"type": "Feature", "id": "x"}, "no properties or no assets"),
    ({"type": "Collection"}, "is no STAC item"),
    (None, "is no STAC item"),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_what_is_refused_is_one_line(folder: Path, bad: Any, words: str) -> None:
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    path = collection(folder / "items.json", item({"a": asset("a.jpg")}, "sound"), bad)
    (problem,) = problems(path, Hrefs(cache=folder / "cache"))
    assert problem.startswith("item 2")
    assert words in problem
    assert "SECRET" not in problem
    dataset = read(path, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["sound/a"]
    assert len(dataset.skipped) == 1


def test_roots_are_what_is_configured(folder: Path) -> None:
    outside = {
        "a": asset("../other/o.jpg"),
        "b": asset((folder.parent / "other/o.jpg").as_uri()),
        "c": asset(str(folder.parent / "other/o.jpg")),
    }
    path = write(folder / "i.json", item(outside))
    assert len(problems(path, Hrefs())) == 3
    found = read(path, hrefs=Hrefs((folder.parent / "other",))).records
    assert [record.path for record in found] == [folder.parent / "other/o.jpg"] * 3
    # A root in place of the file's own folder, not beside it; and through a link.
    own = write(folder / "own.json", item({"a": asset("a.jpg")}))
    assert len(problems(own, Hrefs((folder.parent / "other",)))) == 1
    (folder.parent / "alias").symlink_to(folder)
    assert len(read(own, hrefs=Hrefs((folder.parent / "alias",))).records) == 1


# --- hosts ----------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


class Host:
    """A web server of this computer whose answers are given by path; it counts what it is asked."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers, self.asked = dict(answers), list[str]()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                host.answers[self.path.partition("?")[0]](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.name}{path}"


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[Host]:
    host = Host(answers)
    thread = threading.Thread(target=host.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield host
    finally:
        host.server.shutdown()
        thread.join()
        host.server.server_close()


def send(content: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def moved(address: str) -> Answer:
    return send(b"", 302, Location=address)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_assets_of_a_configured_host_are_fetched_once(folder: Path, tmp_path: Path) -> None:
    def tagged(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers["If-None-Match"] == '"v1"':
            send(b"", 304)(handler)
        else:
            send(PICTURE, ETag='"v1"')(handler)

    with serving({"/a.jpg": tagged, "/b.jpg": moved("/a.jpg"), "/c": send(PICTURE)}) as host:
        assets = {key: asset(host.url(f"/{key}?sig=1")) for key in ("a.jpg", "b.jpg", "c")}
        path = write(folder / "i.json", item(assets))
        hrefs = Hrefs(hosts=(host.name,), cache=tmp_path / "cache")
        first, second, third = read(path, hrefs=hrefs).records
        assert first.path == tmp_path / "cache" / f"{hash_bytes(PICTURE)}.jpg"
        assert first.path.read_bytes() == PICTURE
        assert (second.path, third.path.suffix) == (first.path, "")
        assert read(path, hrefs=hrefs).records == (first, second, third)
        first.path.unlink()  # what is gone from the cache is fetched again
        assert read(path, hrefs=hrefs).records[0].path.read_bytes() == PICTURE
        names = sorted(file.name for file in (tmp_path / "cache").iterdir())
        assert names == sorted([first.path.name, third.path.name, "addresses"])
        # Nothing of an address is kept but its hash.
        notes = "".join(file.read_text() for file in (tmp_path / "cache/addresses").iterdir())
        assert "sig" not in notes


def test_without_hosts_or_a_cache_nothing_is_asked(folder: Path, tmp_path: Path) -> None:
    with serving({"/a.jpg": send(PICTURE)}) as host:
        path = write(folder / "i.json", item({"a": asset(host.url("/a.jpg"))}))
        port = host.name.partition(":")[2]
        for hosts in ((), ("127.0.0.1",), ("localhost", f"localhost:{port}"), ("127.0.0.1:80",)):
            (problem,) = problems(path, Hrefs(hosts=hosts, cache=tmp_path / "cache"))
            assert f"allow it with --host '{host.name}'" in problem
        assert "download it" in problems(path, Hrefs(hosts=(host.name,)))[0]
        assert host.asked == []


def test_redirects_lead_to_configured_hosts_only(tmp_path: Path) -> None:
    with serving({"/secret": send(b"secret")}) as inner:
        answers = {
            "/in": moved(inner.url("/secret?token=1")),
            "/file": moved("file:///etc/passwd"),
            "/ftp": moved("ftp://127.0.0.1/x"),
            "/user": moved("http://u:TOKEN@127.0.0.1/x"),
            "/loop": moved("/loop"),
        }
        with serving(answers) as outer:
            hrefs = Hrefs(hosts=(outer.name,), cache=tmp_path / "cache")
            for path, words in (
                ("/in", "not configured"),
                ("/file", "answers 302"),
                ("/ftp", "no address"),
                ("/user", "has a user in it"),
                ("/loop", "answers 302"),
            ):
                with pytest.raises(InputError) as caught:
                    fetch(outer.url(path), hrefs)
                assert words in str(caught.value)
                assert "; " in str(caught.value)
                assert "token" not in str(caught.value).lower()
            assert inner.asked == []
            both = Hrefs(hosts=(outer.name, inner.name), cache=tmp_path / "cache")
            assert fetch(outer.url("/in"), both).read_bytes() == b"secret"


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b"x")
        except OSError:
            return
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 10_000)
    except OSError:
        return


def short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"x")


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\xff\xfe no http at all\r\n\r\n")


def test_bounds(tmp_path: Path) -> None:
    answers = {
        "/large": send(b"x" * 2000),
        "/endless": endless,
        "/drip": drip,
        "/short": short,
        "/garbage": garbage,
        "/404": send(b"no", 404),
        "/500": send(b"no", 500),
    }
    with serving(answers) as host:
        hrefs = Hrefs(hosts=(host.name,), cache=tmp_path / "cache")
        for path, words in (
            ("/large", "larger than 1,000 bytes"),
            ("/endless", "larger than 1,000 bytes"),
            ("/drip", "too slow"),
            ("/short", "IncompleteRead"),
            ("/garbage", "BadStatusLine"),
            ("/404", "answers 404"),
            ("/500", "answers 500"),
            ("/sp ace", "InvalidURL"),
        ):
            with pytest.raises(InputError) as caught:
                fetch(host.url(path), hrefs, max_bytes=1000, seconds=0.3 if path == "/drip" else 60)
            assert words in str(caught.value)
            assert str(caught.value).startswith(f"href 'http://{host.name}{path}' ")
            assert "; " in str(caught.value)
        left = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
        assert left == []
    with pytest.raises(InputError, match=r"cannot be fetched \(Connection refused\); try again"):
        fetch(host.url("/large"), hrefs)


def test_what_the_folder_reader_finds_is_a_record_like_any(folder: Path) -> None:
    path = write(folder / "i.json", item({"a": asset("a.jpg")}, geometry=None, datetime=None))
    assert read_stac(path).records == (Record("S2A/a", folder / "a.jpg", Platform.SATELLITE),)


def test_a_feature_collection_by_the_name_of_json_is_a_table(folder: Path) -> None:
    plain = {"type": "Feature", "properties": {"path": "a.jpg"}, "geometry": None}
    assert read(collection(folder / "plain.json", plain)).kind == "table"
    assert recognise(write(folder / "odd.json", {"a": 1})) == "geotext"
    assert recognise(write(folder / "list.json", [])) == "geotext"


def test_the_command_line_passes_roots_hosts_and_platforms_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real reading, fetching, decoding and storing; only the tower is a stand-in."""
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("saywhere.bundle.load_experts", lambda _folder: None)
    monkeypatch.setattr("saywhere.index.embedder", Tower.embedder)
    with serving({"/x.jpg": send(PICTURE)}) as host:
        assets = {"a": asset("a.jpg"), "o": asset("../other/o.jpg"), "x": asset(host.url("/x.jpg"))}
        path = write(folder / "i.json", item(assets))
        common = ("index", str(path), "--experts", "any", "--index", str(tmp_path / "i"))
        done = command(*common, "--skip-bad", "--json")
        assert (done.code, json.loads(done.out)["images"]) == (0, 1)
        assert "allow its folder with --root" in done.err
        assert f"allow it with --host '{host.name}'" in done.err
        more = ("--root", str(folder.parent), "--host", host.name, "--platform", "drone=S2A/x")
        done = command(*common, *more, "--json")
        assert (done.code, json.loads(done.out)["images"]) == (0, 3), done.err
    with open_writer(str(tmp_path / "i")) as writer:
        rows = {row.image_id: row for row in writer.rows()}
    assert [row.platform for _, row in sorted(rows.items())] == [
        Platform.SATELLITE, Platform.SATELLITE, Platform.DRONE,
    ]  # fmt: skip
    assert Path(rows["S2A/x"].path).parent == tmp_path / "cache/remote"
    wrong = command(*common, "--platform", "boat")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("saywhere: --platform 'boat': is no rule; give satellite")
