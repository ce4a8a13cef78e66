"""The Batch API's files: one request a line out, one result a line in, matched by job key."""

from __future__ import annotations

import json
from pathlib import Path

from saywhere.errors import InputError
from saywhere.files import write_text
from saywhere.refine.answers import Answer, read_body
from saywhere.refine.endpoint import request_body
from saywhere.refine.lines import RefinedFile
from saywhere.refine.plan import Order

_URL = "/v1/chat/completions"
_OK = 200


def write_batch(order: Order, out: RefinedFile, path: Path) -> int:
    """Write requests for the lines that are missing in ``out``; how many.

    Raises:
        InputError: the place cannot be written to.
    """
    missing = [job for job in order.jobs if out.get(job.key) is None]
    requests = [
        {
            "custom_id": job.key,
            "method": "POST",
            "url": _URL,
            "body": request_body(order.settings.model, order.messages(job), order.parameters(job)),
        }
        for job in missing
    ]
    write_text(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in requests))
    return len(missing)


def read_batch(path: Path) -> dict[str, Answer | None]:
    """Answers by job key, None for requests that failed; the lines may come in any order.

    Raises:
        InputError: the file cannot be read, or a line in it is no batch result.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); check it") from None
    answers: dict[str, Answer | None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            key, response = str(value["custom_id"]), value.get("response") or {}
            status, body = response.get("status_code"), response.get("body")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise InputError(
                f"{path}, line {number}: is no batch result; name the results file, not the "
                "requests file, and fetch it whole"
            ) from None
        answers[key] = read_body(body) if status == _OK else None
    return answers
