"""An OpenAI-compatible endpoint that misbehaves, by seed: the same request in the same attempt is
always answered alike, whatever the order of requests. And captions to ask it about.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from saywhere.refine.plan import Order, Settings, StyleChoice, plan
from saywhere.refine.prompts import load_prompts
from saywhere.text.variants import operator_variant
from saywhere.types import Caption, Dataset, Platform, Record

REFUSAL = "I'm sorry, but I cannot help with describing this building."
# What a model may do. All but "good" must end in rule-based text, or in another attempt.
ANSWERS: Mapping[str, Callable[[str], str]] = {
    "good": lambda caption: json.dumps({"text": operator_variant(caption, 0)}),
    "fenced": lambda caption: f'```json\n{{"text": "{operator_variant(caption, 0)}"}}\n```',
    "prose": lambda caption: f'Rewrite: "{operator_variant(caption, 0)}"',
    "invents": lambda caption: json.dumps({"text": operator_variant(caption, 0) + ", a zeppelin"}),
    "places": lambda caption: json.dumps(
        {"text": operator_variant(caption, 0) + " on the left side"}
    ),
    "echoes": lambda caption: json.dumps({"text": caption}),
    "foreign": lambda _: json.dumps({"text": "ein rotes Backsteingebäude hinter grünen Bäumen"}),
    "refuses": lambda _: REFUSAL,
    "half": lambda caption: json.dumps({"text": caption})[:-8],
    "garbage": lambda _: "\x00\ufffd{]}\n<|endoftext|>" * 40,
    "empty": lambda _: "",
}
FAULTS = ("429", "500", "html", "no-choices", "drip", "disconnect")
GOOD_ONLY = {"good": 1}
MISBEHAVING = {**dict.fromkeys(ANSWERS, 3), **dict.fromkeys(FAULTS, 2), "good": 20, "drip": 1}


class FakeEndpoint:
    """What was asked, and how it was answered; ``weights`` may be changed while it serves."""

    def __init__(self, seed: int, weights: Mapping[str, int], delay: float) -> None:
        self.seed = seed
        self.weights = dict(weights)
        self.delay = delay
        self.url = ""
        self.kinds: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_kind(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        """What the next attempt at this request gets."""
        with self._lock:
            caption = body["messages"][-1]["content"]
            attempt = self._attempts[caption]
            self._attempts[caption] += 1
            draw = random.Random(f"{self.seed}:{attempt}:{caption}")
            kind = draw.choices([*self.weights], [*self.weights.values()])[0]
            self.kinds[kind] += 1
            self.requests.append(body)
            self.headers.append(headers)
        return kind


def completion(content: str) -> dict[str, Any]:
    """A body as endpoints send it."""
    message = {"role": "assistant", "content": content}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


@contextmanager
def serve(
    seed: int = 0, weights: Mapping[str, int] = GOOD_ONLY, delay: float = 0.0
) -> Iterator[FakeEndpoint]:
    """Serve on a free port of loopback until the block ends."""
    endpoint = FakeEndpoint(seed, weights, delay)
    server = _Server(("127.0.0.1", 0), _handler(endpoint))
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Clients hang up on slow drips; that is their right."""


def _handler(endpoint: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kind = endpoint.next_kind(body, {k.lower(): v for k, v in self.headers.items()})
            time.sleep(endpoint.delay)
            if kind in ANSWERS:
                caption = body["messages"][-1]["content"].split(": ", 1)[-1]
                self._send(200, json.dumps(completion(ANSWERS[kind](caption))).encode())
            elif kind == "429":
                self._send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.01"})
            elif kind == "drip":
                self._drip()
            elif kind == "disconnect":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
            elif kind == "redirect":
                self._send(307, b"", {"Location": endpoint.url + "/elsewhere"})
            else:
                bodies = {"html": b"<html>gateway</html>", "no-choices": b'{"choices": []}'}
                status = int(kind) if kind.isdigit() else 200
                self._send(status, bodies.get(kind, b'{"error": {"message": "no"}}'))

        def _send(self, status: int, data: bytes, more: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (more or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _drip(self) -> None:
            """A byte now and then, for longer than anybody should wait."""
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)

    return Handler


COLOURS = ("red", "white", "grey", "brown", "pale green", "dark blue", "yellow", "black")
THINGS = ("hall", "tower", "church", "warehouse", "villa", "school", "station", "terrace", "barn")
NEARBY = ("pond", "car park", "lawn", "canal", "playing field", "hedge", "railway")


def dataset(count: int) -> Dataset:
    """Captions of two sentences, all different, in the manner of GeoText."""
    records, captions = [], []
    for k in range(count):
        name = f"{k:04d}.jpg"
        colour, other = COLOURS[k % 8], COLOURS[(k // 8 + 3) % 8]
        text = (
            f"A {colour} brick {THINGS[k % 9]} with {k + 2} tall windows stands in the center. "
            f"To the left lies a {NEARBY[k % 7]}, and a small {other} shed stands behind it."
        )
        records.append(Record(name, Path(name), Platform.GROUND, f"{k:04d}"))
        captions.append(Caption(name, text, text))
    return Dataset("geotext", Path("train.json"), tuple(records), tuple(captions))


def order(count: int, style: StyleChoice = "operator", variants: int = 1, **settings: Any) -> Order:
    jobs = plan(dataset(count), style, variants)
    prompts = load_prompts({job.style for job in jobs})
    return Order(jobs, prompts, Settings(model="fake", **settings))
