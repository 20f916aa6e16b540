"""What crosses the Whisper host's socket: parameters in, a result (or its lines) out.

What it is: the contract with ``engines/transcribe``, as msgspec structs. Times are seconds from the start of
the upload.
What it refuses to be: OpenAI's shapes; the gateway makes those.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.errors import BadRequest

PARAMS_HEADER = "x-appliance-params"
Rank = Literal["live", "interactive", "bulk"]
RANKS: tuple[Rank, ...] = ("live", "interactive", "bulk")
_PATIENCE_S: dict[Rank, float] = {"live": 0.0, "interactive": 1.0, "bulk": 11.0}


class Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An upload of bare samples: FFmpeg's name of the encoding, samples a second, channels."""

    codec: Literal["s16le", "s16be", "mulaw", "alaw"]
    rate: Annotated[int, msgspec.Meta(ge=4000, le=192_000)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to transcribe. ``language``: Whisper's code, None to detect. ``temperature`` None or 0: the ladder.

    ``hotwords``: names and terms to expect. ``languages``: where none is given, one of these is spoken.
    ``verbatim``: as it was said, numbers in words. ``split``: one speaker a channel. ``raw``: what an upload without a
    header is. ``rank``: who goes first, live audio before what somebody waits for before what nobody does.
    ``progress``: lines that say how far it is, before the result.
    """

    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    word_timestamps: bool = False
    stream: bool = False
    deadline_s: float = 600.0
    hotwords: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    verbatim: bool = False
    split: bool = False
    raw: Raw | None = None
    rank: Rank = "interactive"
    progress: bool = False

    @property
    def patience_s(self) -> float:
        """How long its windows let younger ones of a better rank pass. Bounded, so that nobody starves."""
        return _PATIENCE_S[self.rank]


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """One word as spoken, without surrounding spaces. ``confidence`` 0 to 1, where the model tells."""

    word: str
    start: float
    end: float
    confidence: float | None = None


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies between two timestamps. ``seek`` is the first frame (10 ms) of the window it came from.

    ``channel`` of a split recording.
    """

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
    channel: int | None = None


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


class Detection(msgspec.Struct, frozen=True):
    """What is spoken: the likeliest language, and all with their probabilities, likeliest first (at most ten).

    ``language`` None: nobody speaks. ``heard_s``: of how much that was told, which is what it cost. ``text`` is empty:
    the gateway reads this as it reads a ``Result``.
    """

    language: str | None
    language_probability: float
    languages: list[tuple[str, float]]
    duration_s: float
    heard_s: float = 0.0
    text: str = ""


class Delta(msgspec.Struct, frozen=True, tag_field="type", tag="delta"):
    """The text of one more segment; all deltas joined are ``Result.text``."""

    text: str


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """How much of the audio is done, 0 to 1."""

    done: float


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="done"):
    """The last line of a good answer."""

    result: Result


class Failure(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """The last line of an answer that broke off."""

    status: int
    code: str
    message: str


Line = Delta | Progress | Done | Failure


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
