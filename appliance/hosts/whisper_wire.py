"""What crosses the Whisper host's socket: parameters in, a result (or its lines) out.

What it is: the contract with ``engines/transcribe``, as msgspec structs. Times are seconds from the start of
the upload.
What it refuses to be: OpenAI's shapes; the gateway makes those.
"""

from __future__ import annotations

import msgspec

from appliance.errors import BadRequest

PARAMS_HEADER = "x-appliance-params"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to transcribe. ``language``: Whisper's code, None to detect. ``temperature`` None or 0: the ladder."""

    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    word_timestamps: bool = False
    stream: bool = False
    deadline_s: float = 600.0


class Word(msgspec.Struct, frozen=True):
    """One word as spoken, without surrounding spaces."""

    word: str
    start: float
    end: float


class Segment(msgspec.Struct, frozen=True):
    """What lies between two timestamps. ``seek`` is the first frame (10 ms) of the window it came from."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class Result(msgspec.Struct, frozen=True):
    """A whole transcript. ``text`` is the segments' text joined; ``words`` None unless asked for.

    ``language`` None: none was given, and there was no speech to detect it from.
    """

    language: str | None
    language_probability: float
    duration_s: float
    text: str
    segments: list[Segment]
    words: list[Word] | None


class Delta(msgspec.Struct, frozen=True, tag_field="type", tag="delta"):
    """The text of one more segment; all deltas joined are ``Result.text``."""

    text: str


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="done"):
    """The last line of a good answer."""

    result: Result


class Failure(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """The last line of an answer that broke off."""

    status: int
    code: str
    message: str


Line = Delta | Done | Failure


def parse_params(header: str | None) -> Params:
    """Params from the header; raises BadRequest naming what is wrong."""
    try:
        params = msgspec.json.decode(header or "{}", type=Params)
    except (msgspec.DecodeError, UnicodeError) as e:
        raise BadRequest(f"the header {PARAMS_HEADER} is not usable: {e}; send one JSON object") from None
    if params.temperature is not None and not 0.0 <= params.temperature <= 1.0:
        raise BadRequest("temperature is outside 0 to 1; send a value between them", param="temperature")
    if not params.deadline_s > 0:
        raise BadRequest("deadline_s is not above 0; send the seconds the answer may take", param="deadline_s")
    return params
