"""A model that somebody else serves: any OpenAI-compatible address, over TCP or a unix socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from engine.chat.answer import Answer, Chance, Loaded, Sampling, Token
from engine.chat.sources import ModelSpec
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.settings import Settings

if TYPE_CHECKING:
    import httpx2 as httpx

CONNECT = 5.0
"""Seconds to reach the server."""
SILENCE = 120.0
"""Seconds without a piece of the answer after which it is given up."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Likely(msgspec.Struct):
    token: str
    logprob: float


class _LikelyToken(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Likely] = []


class _Chances(msgspec.Struct):
    content: list[_LikelyToken] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None
    logprobs: _Chances | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    """One event of a streamed chat completion; other fields are of no concern."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)


class Endpoint:
    """A served model, ready to be asked."""

    def __init__(
        self, client: httpx.Client, model: str, shown: str, loaded: Loaded, served: Sequence[str]
    ) -> None:
        self.loaded = loaded
        self.model = model
        self._client = client
        self._shown = shown
        self._served = served
        self._response: httpx.Response | None = None
        self._stopped = threading.Event()

    def generate(
        self, messages: Sequence[Mapping[str, str]], sampling: Sampling
    ) -> Iterator[Token | Answer]:
        """The answer as it comes, then the whole. What came before a break is an `Answer` too.

        Raises `Failed` when nothing came at all.
        """
        self._stopped.clear()
        talk = list(messages)
        if self.loaded.system and talk and talk[0]["role"] != "system":
            talk.insert(0, {"role": "system", "content": self.loaded.system})
        answer = _Growing()
        errors = _httpx()
        try:
            with self._client.stream(
                "POST", "chat/completions", json=_request(self.model, talk, sampling)
            ) as response:
                self._response = response
                self._check(response)
                for chunk in _events(response):
                    text = answer.take(chunk)
                    if text:
                        yield Token(text)
        except (errors.HTTPError, errors.StreamError) as error:
            if not self._stopped.is_set() and not answer.text:
                raise self._failed(str(error) or type(error).__name__) from error
            answer.ended = "stopped" if self._stopped.is_set() else "broken"
        finally:
            self._response = None
        yield answer.whole(stopped=self._stopped.is_set())

    def stop(self) -> None:
        """End the answer in progress; safe from any thread."""
        self._stopped.set()
        response = self._response
        stream = response.extensions.get("network_stream") if response is not None else None
        if stream is not None:
            # To close it would not wake the thread that waits for the next piece.
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        raise self._failed(_said(response))

    def _failed(self, why: str) -> Failed:
        # Not asked before: some servers answer for more models than they list.
        if self._served and self.model not in self._served:
            why += " " + _("It lists: {names}.").format(names=", ".join(self._served))
        return Failed(
            _("{address} gave no answer").format(address=self._shown),
            why,
            _("Look at the server's own log; the conversation is kept."),
        )


class _Growing:
    """An answer while it comes."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = ""
        self._pieces = 0
        self._usage: _Usage | None = None
        self._chances: list[Chance] = []
        self._times = [time.perf_counter()]

    def take(self, chunk: _Chunk) -> str:
        """Add what one event brings; return the new text."""
        from math import exp

        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.ended = "length" if choice.finish_reason == "length" else "end"
        for one in (choice.logprobs.content or []) if choice.logprobs else []:
            others = [(other.token, exp(other.logprob)) for other in one.top_logprobs]
            self._chances.append(Chance(one.token, exp(one.logprob), others))
        text = choice.delta.content or ""
        if text:
            self._pieces += 1
            self._times.append(time.perf_counter())
            self.text += text
        return text

    def whole(self, stopped: bool) -> Answer:
        """What there is. Without the server's own count, a piece counts as one token."""
        usage = self._usage or _Usage()
        tokens = usage.completion_tokens or self._pieces
        first = self._times[1] - self._times[0] if self._pieces else 0.0
        spent = self._times[-1] - self._times[1] if self._pieces > 1 else 0.0
        return Answer(
            text=self.text,
            tokens=tokens,
            first_token_s=round(first, 4),
            tokens_per_s=round((tokens - 1) / spent, 2) if spent else 0.0,
            ended=self.ended or ("stopped" if stopped else "broken"),
            prompt="",
            prompt_tokens=usage.prompt_tokens,
            chances=self._chances,
        )


def connect(spec: ModelSpec, settings: Settings) -> Endpoint:
    """Reach the server that `spec.model` names and choose one of its models.

    Raises `Failed` when it does not answer, `Problem` when it serves nothing.
    """
    started = time.monotonic()
    address, _sep, wanted = spec.model.partition("#")
    errors = _httpx()
    try:
        client = _client(address, spec.key or settings.chat.key)
        response = client.get("models")
        served = _served(response) if response.is_success else None
    except (errors.HTTPError, errors.InvalidURL, ValueError) as error:
        raise _unreachable(address, str(error) or type(error).__name__) from error
    if served is None and not wanted:
        # Some servers answer questions, but do not list what they have.
        raise _unreachable(address, _said(response))
    if not wanted and not served:
        raise Problem(_("{address} serves no model").format(address=address))
    model = wanted or (served or [""])[0]
    loaded = Loaded(
        template=_("of the server"),
        system=spec.system or "",
        dtype="",
        device=address,
        seconds=round(time.monotonic() - started, 3),
        context=None,
    )
    return Endpoint(client, model, address, loaded, served or [])


def _served(response: httpx.Response) -> list[str] | None:
    """The models that a server lists; None when its list cannot be read."""
    try:
        return [str(one["id"]) for one in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def _unreachable(address: str, why: str) -> Failed:
    return Failed(
        _("No model answers at {address}").format(address=address),
        why,
        _("Start the server, or correct the address (it mostly ends with /v1)."),
    )


def _httpx() -> Any:
    """The HTTP client library: httpx2 goes on where httpx ended, but needs Python 3.11."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx  # type: ignore[no-redef]
    return httpx


def _client(address: str, key: str) -> httpx.Client:
    errors = _httpx()
    timeout = errors.Timeout(SILENCE, connect=CONNECT)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    options: dict[str, Any] = {"timeout": timeout, "headers": headers}
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        transport = errors.HTTPTransport(uds=path)
        client: httpx.Client = errors.Client(
            base_url="http://localhost/v1/", transport=transport, **options
        )
        return client
    # A proxy for the world outside must not be asked for this machine itself.
    local = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    client = errors.Client(base_url=address.rstrip("/") + "/", trust_env=not local, **options)
    return client


def _request(
    model: str, messages: Sequence[Mapping[str, str]], sampling: Sampling
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    # No part of OpenAI's own interface, so only said when asked for.
    if sampling.top_k:
        request["top_k"] = sampling.top_k
    if sampling.repetition != 1.0:
        request["repetition_penalty"] = sampling.repetition
    if sampling.chances:
        request |= {"logprobs": True, "top_logprobs": sampling.chances}
    return request


def _events(response: httpx.Response) -> Iterator[_Chunk]:
    """The events of a stream; a comment, an empty line or a strange event is passed over."""
    for line in response.iter_lines():
        field, _colon, value = line.partition(":")
        value = value.strip()
        if field != "data" or not value or value == "[DONE]":
            continue
        try:
            chunk = _chunk.decode(value)
        except msgspec.MsgspecError:
            continue
        if chunk.error is not None:
            raise _httpx().RemoteProtocolError(_message(chunk.error))
        yield chunk


def _said(response: httpx.Response) -> str:
    """What a server says about a refusal, in one line."""
    try:
        value = response.json()
    except ValueError:
        value = response.text[:300]
    status = f"{response.status_code} {response.reason_phrase}"
    return f"{status}: {_message(value)}"


def _message(value: Any) -> str:
    while isinstance(value, dict):
        value = (
            value.get("error") or value.get("message") or value.get("detail") or json.dumps(value)
        )
    return str(value)[:300]
