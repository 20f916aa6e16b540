"""The gateway as the live process sees it: is a key known, is a language heard, and what does a turn say.

What it is: a client of ``/v1/models`` and ``/v1/audio/…``, with the caller's own key.
What it refuses to be: a way round the gateway. It has no key of its own; the token it sends along only moves a finished
turn forward in the speech engine's queue (``api/vouched``).
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec

from appliance.errors import EngineUnavailable
from appliance.hosts.live_settings import Refused

_log = logging.getLogger(__name__)
# the names are the gateway's (``api/vouched``), which this process does not import; a test holds the two together
HEADER, FILE = "x-appliance-live", "live.token"


def fresh_token(run: Path) -> str:
    """A new token in ``run``, readable by this user alone. Where it cannot be written, turns go without one."""
    token = secrets.token_hex(32)
    part = run / f".{FILE}"
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        part.replace(run / FILE)
    except OSError as e:
        _log.warning("live audio goes with the rest, for %s cannot be written: %s", run / FILE, e)
        return ""
    return token


class Gateway:
    """``client``: its base URL is the gateway's."""

    def __init__(self, client: httpx2.AsyncClient, token: str = "") -> None:
        self._client = client
        self._token = token

    async def knows(self, key: str) -> bool:
        """Whether the gateway takes requests with ``key``. Raises EngineUnavailable where it does not answer."""
        if not key or not key.isascii() or not key.isprintable():
            return False
        try:
            answer = await self._client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        except httpx2.HTTPError:
            answer = None
        if answer is None or answer.status_code >= 500:
            raise EngineUnavailable("the gateway does not answer; try again shortly", headers={"retry-after": "2"})
        return answer.status_code == 200

    async def check(self, key: str, fields: dict[str, str]) -> None:
        """Whether the languages of ``fields`` are heard here. Raises Refused where the gateway says that it is not.

        Where it does not answer, the turns will say so.
        """
        headers = {"authorization": f"Bearer {key}"}
        for language in (fields.get("language") or fields.get("languages", "")).split(","):
            asked = {"model": fields["model"], "language": language}
            try:
                answer = await self._client.get("/v1/audio/languages", headers=headers, params=asked)
            except httpx2.HTTPError:
                return
            if answer.status_code == 400:
                raise _refusal(answer.content, answer.status_code)

    async def transcribe(
        self, key: str, audio: bytes, fields: dict[str, str], final: bool
    ) -> AsyncIterator[tuple[str, str]]:
        """The stream of one turn, or of what there is of it. Raises Refused with what the gateway said."""
        headers = {"authorization": f"Bearer {key}"}
        if final and self._token:
            headers[HEADER] = self._token
        form: dict[str, str | list[str]] = {**fields, "stream": "true"}
        if "keywords" in fields:
            form["keywords"] = fields["keywords"].splitlines()
        try:
            async with self._client.stream(
                "POST",
                "/v1/audio/transcriptions",
                headers=headers,
                data=form,
                files={"file": ("turn", audio)},
            ) as answer:
                if answer.status_code != 200:
                    raise _refusal(await answer.aread(), answer.status_code)
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    event = msgspec.json.decode(line.removeprefix("data: "))
                    if event.get("type") == "transcript.text.delta":
                        yield "delta", event["delta"]
                    elif event.get("type") == "transcript.text.done":
                        for one in event.get("languages") or ():
                            yield "language", str(one["code"])
                        yield "done", event["text"]
                        return
                    elif "error" in event:
                        raise _refusal(line.removeprefix("data: ").encode(), 502)
                raise Refused("the transcript broke off; try again", code="stream_cut", status=502)
        except (httpx2.HTTPError, msgspec.DecodeError) as e:
            _log.warning("a turn was not transcribed: %r", e)
            raise Refused("the gateway did not answer; try again", code="engine_unavailable", status=503) from None


def _refusal(body: bytes, status: int) -> Refused:
    try:
        error = msgspec.json.decode(body)["error"]
        message, param, code = str(error["message"]), str(error.get("param") or ""), str(error.get("code") or "failed")
        return Refused(message, param, code, status)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return Refused("the gateway refused the turn", code="failed", status=status)
