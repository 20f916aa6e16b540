"""What a live session may be told: OpenAI's transcription settings, in today's form and the beta's.

What it is: ``Chosen``, frozen, and ``updated``, which checks a ``session`` object and gives the next ``Chosen``.
What it refuses to be: lenient. A setting that cannot be kept is answered with the field's name; the rest then stands as
it was.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from appliance.hosts.live_audio import Format, VadSettings

_TYPES: dict[str, Literal["pcm_s16le", "mulaw", "alaw"]] = {
    "audio/pcm": "pcm_s16le",
    "audio/pcmu": "mulaw",
    "audio/pcma": "alaw",
}
_OLD_FORMATS = {"pcm16": ("audio/pcm", 24000), "g711_ulaw": ("audio/pcmu", 8000), "g711_alaw": ("audio/pcma", 8000)}
_PCM_RATES = (8000, 16000, 24000)
# what parts the values of a list in a form's field, how many there may be and how long one is
_LISTS = {"languages": (",", 8, 40), "keywords": ("\n", 64, 64)}


class Refused(Exception):
    """A command that cannot be obeyed; the session goes on. ``param`` names what to mend.

    ``status``: the gateway's, where it was the gateway that refused a turn.
    """

    def __init__(self, message: str, param: str = "", code: str = "invalid_request", status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


class Chosen(Struct, frozen=True):
    """``fields``: of the transcription's form, lists as one string. ``vad`` None: turns end by commits."""

    format: Format = Format()
    fields: dict[str, str] = field(default_factory=lambda: {"model": "whisper-1"})
    vad: VadSettings | None = VadSettings()

    def described(self) -> dict[str, str]:
        """The form fields of a turn."""
        return {**self.fields, "input_audio_codec": self.format.codec, "sample_rate": str(self.format.rate)}

    def shown(self, session_id: str) -> dict[str, Any]:
        """The session object of the protocol."""
        kinds = {codec: kind for kind, codec in _TYPES.items()}
        vad = self.vad
        detection = None if vad is None else {
            "type": "server_vad",
            "threshold": vad.threshold,
            "prefix_padding_ms": vad.prefix_padding_ms,
            "silence_duration_ms": vad.silence_duration_ms,
        }  # fmt: skip
        audio = {
            "format": {"type": kinds[self.format.codec], "rate": self.format.rate},
            "transcription": {
                name: value.split(_LISTS[name][0]) if name in _LISTS else value for name, value in self.fields.items()
            },
            "turn_detection": detection,
            "noise_reduction": None,
        }
        shown = {"id": session_id, "object": "realtime.transcription_session", "type": "transcription"}
        return {**shown, "audio": {"input": audio}, "include": None}


def updated(old: Chosen, session: dict[str, Any]) -> Chosen:
    """``old`` with what ``session`` says. Raises Refused."""
    given = object_of(object_of(session.get("audio"), "session.audio").get("input"), "session.audio.input")
    if "input_audio_format" in session:  # the form of the beta, which clients still write
        kind, rate = _OLD_FORMATS.get(str(session["input_audio_format"]), ("", 0))
        given = {**given, "format": {"type": kind, "rate": rate}}
    for name, new in (("input_audio_transcription", "transcription"), ("turn_detection", "turn_detection")):
        if name in session:
            given = {**given, new: session[name]}
    return Chosen(
        _format(given["format"]) if given.get("format") is not None else old.format,
        _fields(given["transcription"]) if given.get("transcription") is not None else old.fields,
        _vad(given["turn_detection"]) if "turn_detection" in given else old.vad,
    )


def object_of(value: Any, name: str) -> dict[str, Any]:
    """``value`` where it is an object, {} for null. Raises Refused."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{name} is not an object", name)
    return value


def _format(value: Any) -> Format:
    given = object_of(value, "format")
    codec = _TYPES.get(str(given.get("type")))
    rate = given.get("rate") or (24000 if codec == "pcm_s16le" else 8000)
    if codec is None or not isinstance(rate, int) or rate not in (_PCM_RATES if codec == "pcm_s16le" else (8000,)):
        raise Refused("the format is audio/pcm at 8000, 16000 or 24000, or audio/pcmu or audio/pcma at 8000", "format")
    return Format(codec, rate)


def _fields(value: Any) -> dict[str, str]:
    given = object_of(value, "transcription")
    fields = {"model": "whisper-1"}
    for name in ("model", "language", "prompt"):
        if given.get(name):
            if not isinstance(given[name], str) or len(given[name]) > 2000:
                raise Refused(f"transcription.{name} is not a string of at most 2000 characters", name)
            fields[name] = given[name]
    for name, (between, most, longest) in _LISTS.items():
        values = given.get(name)
        if not values:
            continue
        if (
            not isinstance(values, list)
            or len(values) > most
            or not all(
                isinstance(value, str)
                and 0 < len(value.strip()) <= longest
                and value.isprintable()
                and between not in value
                for value in values
            )
        ):
            raise Refused(f"transcription.{name} is not a list of at most {most} short strings", name)
        fields[name] = between.join(values)
    return fields


def _vad(value: Any) -> VadSettings | None:
    if value is None:
        return None
    given = object_of(value, "turn_detection")
    if given.get("type") != "server_vad":
        raise Refused("turn_detection is null or of type server_vad here", "turn_detection")
    try:
        settings = VadSettings(
            float(_given(given, "threshold", 0.5)),
            int(_given(given, "prefix_padding_ms", 300)),
            int(_given(given, "silence_duration_ms", 500)),
        )
    except (TypeError, ValueError, OverflowError):
        raise Refused("turn_detection holds something that is no number", "turn_detection") from None
    good = 0 < settings.threshold <= 1 and 0 <= settings.prefix_padding_ms <= 5000
    if not good or not 100 <= settings.silence_duration_ms <= 10_000:
        raise Refused("turn_detection is out of range: threshold 0 to 1, silence 100 to 10000 ms", "turn_detection")
    return settings


def _given(settings: dict[str, Any], name: str, default: float) -> Any:
    """What was given, 0 included; null is the default."""
    value = settings.get(name)
    return default if value is None else value
