"""Forms: what clients send, in pieces of any size, and everything that can be wrong with one."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.multipart import MAX_FIELD_BYTES, MAX_OVERHEAD_BYTES, MAX_PARTS, Form, read_form
from appliance.errors import ApplianceError, BadRequest, TooLarge

TYPE = "multipart/form-data; boundary=b0"
LIMIT = 1000


def part(name: str, value: bytes, extra: str = "") -> bytes:
    """One part of a form."""
    return f'--b0\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


FILE = part("file", b"RIFF\r\n--b\x00", '; filename="a.wav"')
END = b"--b0--\r\n"


async def pieces(body: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    """``body`` in pieces of ``size``."""
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def read(body: bytes, content_type: str = TYPE, size: int = 65536) -> Form:
    """Read ``body`` under the small limit."""
    return await read_form(content_type, pieces(body, size), LIMIT)


@pytest.mark.parametrize("size", [1, 7, 65536])
async def test_fields_and_file_in_pieces_of_any_size(size: int) -> None:
    body = part("model", b"m") + FILE + part("g[]", "शब्द".encode()) + part("g[]", b"") + END
    form = await read(body, size=size)
    assert form == Form({"model": ["m"], "g[]": ["शब्द", ""]}, b"RIFF\r\n--b\x00")


async def test_a_file_part_needs_no_file_name_and_may_be_empty() -> None:
    assert (await read(part("file", b"") + END)).file == b""


async def test_what_comes_after_the_end_is_ignored() -> None:
    assert (await read(FILE + END + b"epilogue")).file.startswith(b"RIFF")


async def test_what_the_official_client_sends() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        return httpx2.Response(200, json={"text": ""})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(api_key="k", base_url="http://appliance/v1", http_client=http) as client:
        client.audio.transcriptions.create(
            file=("a.wav", b"RIFF"),
            model="whisper-1",
            language="hi",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            temperature=0.2,
        )
    form = await read(seen[0].content, seen[0].headers["content-type"])
    assert form.file == b"RIFF"
    assert form.fields == {
        "model": ["whisper-1"],
        "language": ["hi"],
        "response_format": ["verbose_json"],
        "timestamp_granularities[]": ["word", "segment"],
        "temperature": ["0.2"],
    }


@pytest.mark.parametrize(
    ("body", "content_type", "word"),
    [
        (FILE + END, "", "multipart/form-data"),
        (FILE + END, "application/json", "multipart/form-data"),
        (FILE + END, "multipart/form-data", "boundary"),
        (FILE + END, "multipart/form-data; boundary=", "boundary"),
        (FILE + END, "multipart/form-data; boundary=other", "cannot be read"),
        (FILE + END, "multipart/form-data; boundary=" + "b" * 5000, "cannot be read"),
        (b"", TYPE, "ends early"),
        (FILE, TYPE, "ends early"),
        (FILE[:-20], TYPE, "ends early"),
        (part("model", b"m") + END, TYPE, "'file' is required"),
        (FILE + FILE + END, TYPE, "more than once"),
        (part("voice", b"x", '; filename="v.wav"') + FILE + END, TYPE, "'voice' is a file"),
        (part("model", b"\xff") + FILE + END, TYPE, "UTF-8"),
        (part("model", b"x" * (MAX_FIELD_BYTES + 1)) + FILE + END, TYPE, "longer than"),
        (part("a", b"") * (MAX_PARTS + 1) + END, TYPE, "parts"),
        (b"--b0\r\n\r\nx\r\n" + END, TYPE, "without a name"),
        (b"--b0\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, TYPE, "without a name"),
        (b"--b0\r\nbroken header\r\n\r\nx\r\n" + END, TYPE, "cannot be read"),
    ],
)
async def test_broken_forms(body: bytes, content_type: str, word: str) -> None:
    with pytest.raises(BadRequest) as e:
        await read(body, content_type)
    assert word in e.value.message


async def test_a_file_over_the_limit_names_limit_and_setting() -> None:
    await read(part("file", b"x" * LIMIT) + END)
    with pytest.raises(TooLarge) as e:
        await read(part("file", b"x" * (LIMIT + 1)) + END)
    assert str(LIMIT) in e.value.message
    assert "server.max_audio_bytes" in e.value.message


async def test_an_endless_body_is_stopped_and_never_kept() -> None:
    sent = 0

    async def endless(opening: bytes) -> AsyncIterator[bytes]:
        nonlocal sent
        yield opening
        while sent < 10 * MAX_OVERHEAD_BYTES:
            sent += 65536
            yield b"x" * 65536

    for opening in (b"", FILE + END, part("file", b"")[:-2], b"--b0\r\nContent-Disposition: "):
        sent = 0
        tracemalloc.start()
        with pytest.raises(ApplianceError) as e:
            await read_form(TYPE, endless(opening), LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert e.value.status in (400, 413)
        assert sent <= LIMIT + MAX_OVERHEAD_BYTES + 65536
        assert peak < 2_000_000


@settings(deadline=None, max_examples=150)
@given(st.data())
async def test_no_bytes_raise_anything_else(data: st.DataObject) -> None:
    good = part("model", b"m") + FILE + END
    at = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=40))
    cut = data.draw(st.integers(0, 60))
    body = good[:at] + noise + good[at + cut :]
    content_type = data.draw(st.sampled_from([TYPE, "multipart/form-data; boundary=\x00", 'multipart/form-data;="']))
    try:
        form = await read(body, content_type, size=data.draw(st.sampled_from([1, 5, 1000])))
    except ApplianceError as e:
        assert e.status in (400, 413)
    else:
        assert isinstance(form.file, bytes)
