"""An OpenAI-compatible endpoint, asked without trust: vLLM, Ollama, llama.cpp, a cloud.

Nothing leaves the machine unless remote hosts are allowed: other hosts than loopback are refused,
redirects are not followed, and a proxy from the environment is not used for loopback. The key comes
from the environment and is only ever handed to the client.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from saywhere.errors import InputError, MissingExtraError
from saywhere.refine.answers import Answer, read_body
from saywhere.refine.prompts import SCHEMA, Messages

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

DEFAULT_URL = "http://127.0.0.1:8080/v1"
DEFAULT_KEY_NAME = "OPENAI_API_KEY"
_RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "rewrite", "strict": True, "schema": SCHEMA},
}
_TRANSIENT = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
_NO_SCHEMA = frozenset({400, 422})
_HOPELESS: Mapping[int, str] = {
    401: "check the key in the environment",
    403: "check the key in the environment",
    404: "check the endpoint's path and the model's name",
}
_LONGEST_WAIT = 60.0
# So many jobs in a row without an answer: the endpoint is down, and rule-based text for the rest
# would only look like a result.
_GIVE_UP_AFTER = 30


@dataclass(frozen=True, slots=True)
class Access:
    """How an endpoint is reached.

    Attributes:
        url: base URL, ending in ``/v1`` as a rule.
        allow_remote: hosts other than loopback may be asked.
        key_name: the environment variable that holds the key; unset: no key.
        timeout: seconds for one attempt, from the first byte sent to the last received.
        attempts: at most so many for one caption.
        backoff: seconds before the second attempt at most, doubled each time.
    """

    url: str = DEFAULT_URL
    allow_remote: bool = False
    key_name: str = DEFAULT_KEY_NAME
    timeout: float = 120.0
    attempts: int = 5
    backoff: float = 1.0


@dataclass(slots=True)
class Tally:
    """What happened at the endpoint.

    Attributes:
        calls: attempts made.
        retries: attempts that failed and were made again, by cause.
        failures: captions given up, by the last cause.
    """

    calls: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


def check_url(url: str, *, allow_remote: bool) -> str:
    """The host of a base URL.

    Raises:
        InputError: no http(s) URL, one with a password in it, or a host that is not loopback while
            remote hosts are not allowed.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host:
        raise InputError(f"{_without_user(url)}: is no endpoint; name one like {DEFAULT_URL}")
    if parts.username is not None:
        raise InputError(f"{host}: the URL carries a password; put the key into the environment")
    if not is_loopback(host) and not allow_remote:
        raise InputError(
            f"{host}: is not this machine, and captions would be sent there; "
            "add --allow-remote if you want that"
        )
    return host


def is_loopback(host: str) -> bool:
    """True for addresses of this machine itself; names other than localhost are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class _Failed(Exception):  # noqa: N818 - a signal, caught where attempts are counted
    """An attempt without an answer.

    Attributes:
        cause: as it is counted.
        again: whether another attempt may succeed.
        wait: seconds the endpoint asks for before it.
    """

    def __init__(self, cause: str, *, again: bool = True, wait: float | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.again = again
        self.wait = wait


class Endpoint:
    """Asks for one rewrite at a time; open it inside a running event loop, with ``async with``."""

    def __init__(self, access: Access, model: str, seed: int = 0) -> None:
        """Raises ``InputError`` as ``check_url``, ``MissingExtraError`` without ``openai``."""
        self.host = check_url(access.url, allow_remote=access.allow_remote)
        self.access = access
        self.tally = Tally()
        self._model = model
        self._client = _client(access, self.host)
        self._draw = random.Random(seed)
        self._schema = True  # until the endpoint refuses it
        self._unanswered = 0

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, messages: Messages, parameters: Mapping[str, float | int]) -> Answer | None:
        """One completion, or None after every attempt failed.

        Raises:
            InputError: the endpoint refuses every caption (key, path, model), or doesn't answer.
        """
        cause = ""
        for attempt in range(self.access.attempts):
            try:
                answer = await self._attempt(messages, parameters, schema=self._schema)
            except _Failed as error:
                cause = error.cause
                if not error.again:
                    break
                if attempt + 1 < self.access.attempts:
                    self.tally.retries[cause] += 1
                    await asyncio.sleep(self._pause(attempt, error.wait))
            else:
                self._unanswered = 0
                return answer
        self.tally.failures[cause] += 1
        self._unanswered += 1
        if self._unanswered >= _GIVE_UP_AFTER:
            raise InputError(
                f"{self.host}: {self._unanswered} captions in a row got no answer ({cause}); "
                "start or mend the endpoint, then run the same command with --retry-unanswered"
            )
        return None

    def _pause(self, attempt: int, wait: float | None) -> float:
        """Seconds before the next attempt: what the endpoint asks for, else doubling, jittered."""
        longest = min(self.access.backoff * 2**attempt, _LONGEST_WAIT)
        drawn = longest * (0.5 + 0.5 * self._draw.random())
        return drawn if wait is None else min(max(wait, 0.0), _LONGEST_WAIT)

    async def _attempt(
        self, messages: Messages, parameters: Mapping[str, float | int], *, schema: bool
    ) -> Answer:
        """One attempt; ``_Failed`` where no answer came of it."""
        import openai

        self.tally.calls += 1
        started = time.perf_counter()
        try:
            # The client's own time-out starts anew with every byte: a slow drip would never end.
            async with asyncio.timeout(self.access.timeout):
                text = await self._send(messages, parameters, schema=schema)
            answer = read_body(json.loads(text))
        except (TimeoutError, openai.APITimeoutError):
            raise _Failed("time-out") from None
        except openai.APIConnectionError:
            raise _Failed("no connection") from None
        except openai.APIStatusError as error:
            if error.status_code in _NO_SCHEMA and schema:
                self._schema = False  # an endpoint without structured output
                return await self._attempt(messages, parameters, schema=False)
            raise self._refusal(error) from None
        except (openai.OpenAIError, ValueError, TypeError, LookupError, OSError, RecursionError):
            answer = None
        if answer is None:
            raise _Failed("garbled response")
        return replace(answer, seconds=time.perf_counter() - started)

    def _refusal(self, error: APIStatusError) -> Exception:
        """What an HTTP status means; the message may hold the key and isn't shown."""
        status = error.status_code
        if status in _HOPELESS:
            return InputError(f"{self.host}: refuses with status {status}; {_HOPELESS[status]}")
        again = status in _TRANSIENT or status >= _SERVER_ERROR
        return _Failed(f"status {status}", again=again, wait=_retry_after(error.response.headers))

    async def _send(
        self, messages: Messages, parameters: Mapping[str, float | int], *, schema: bool
    ) -> str:
        more = {"response_format": _RESPONSE_FORMAT} if schema else {}
        completions: Any = self._client.chat.completions.with_raw_response
        response = await completions.create(
            model=self._model, messages=messages, **parameters, **more
        )
        return str(response.text)


def request_body(
    model: str, messages: Messages, parameters: Mapping[str, float | int]
) -> dict[str, Any]:
    """The body of a request, as a batch file carries it."""
    return {
        "model": model,
        "messages": messages,
        **parameters,
        "response_format": _RESPONSE_FORMAT,
    }


def _client(access: Access, host: str) -> AsyncOpenAI:
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError:
        raise MissingExtraError("refine", "refine", "openai") from None
    return AsyncOpenAI(
        base_url=access.url,
        api_key=os.environ.get(access.key_name) or "none",
        max_retries=0,  # retries are ours: counted, and bounded by the whole attempt's time
        timeout=access.timeout,
        http_client=DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=not is_loopback(host)
        ),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After header; dates are left to the back-off."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _without_user(url: str) -> str:
    return url.rsplit("@", 1)[-1]
