"""JSON bodies, strictly: one typed decode, and errors that name the parameter and the fix.

What it is: ``decode`` runs a compiled msgspec decoder over the raw body. All checking of types, ranges and
unknown names happens inside that one pass in C; only when it fails does the Python below take the decoder's
terse text apart and say in OpenAI's words what was wrong and where.
What it refuses to be: lenient. NaN, Infinity, numbers out of range, broken UTF-8, lone surrogates, trailing
bytes and unknown names are errors. Of a duplicated key the last one counts, and because every body is
re-encoded from what was understood, an engine never sees the other one.
What it costs: nothing on top of msgspec for a good body; about 50 µs for a bad one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from appliance.api.parameters import Parameters, Use
from appliance.errors import BadRequest

T = TypeVar("T")

_SHOWN = 100
_LONGEST_TEXT = 1000
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$([^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]*)`(?: - at `\$([^`]*)`)?")
_PLACE = re.compile(r"(.*) - at (?:`key` in )?`\$([^`]*)`", re.DOTALL)
_WRONG_TYPE = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_INDEX = re.compile(r"\[\d+\]")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def decode(body: bytes, decoder: msgspec.json.Decoder[T], parameters: Parameters) -> T:
    """``body`` as the decoder's type. Raises BadRequest that names what to mend."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        raise _explain(str(e), parameters) from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not valid UTF-8; encode the JSON as UTF-8", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply; flatten it", code="invalid_json") from None
    except msgspec.DecodeError as e:
        raise BadRequest(_malformed(body, str(e)), code="invalid_json") from None


def convert(values: Mapping[str, str], kind: type[T], parameters: Parameters) -> T:
    """Texts of a query string as a Struct. Raises BadRequest that names what to mend."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as e:
        raise _explain(str(e), parameters) from None


def unknown(name: str, path: str, parameters: Parameters) -> BadRequest:
    """The error for a parameter nobody knows; ``path`` is where it was found, empty for the top."""
    param = f"{path}.{name}" if path else name
    shown = shorten(param)
    if path:
        text = f"'{shown}' is not a known parameter; remove it"
    else:
        text = f"'{shown}' is not a parameter of this endpoint; {_nearest(name, parameters)}"
    return BadRequest(text, code="unknown_parameter", param=shown)


def missing(param: str, parameters: Parameters) -> BadRequest:
    """The error for a required parameter that is not there."""
    wanted = parameters.expects(param)
    return BadRequest(
        f"'{param}' is required" + (f"; give {wanted}" if wanted else ""),
        code="missing_required_parameter",
        param=param,
    )


def invalid(param: str, text: str, code: str = "invalid_value") -> BadRequest:
    """The error for a value that cannot be used: ``text`` continues the parameter's name."""
    return BadRequest(f"'{param}' {text}", code=code, param=param)


def shorten(text: str) -> str:
    """``text`` fit for a message: printable and of bounded length."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "…"


def _nearest(name: str, parameters: Parameters) -> str:
    if (hint := parameters.hint(name)) is not None:
        return hint
    known = parameters.accepted()
    # difflib is quadratic in the length of what it compares
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6) if len(name) <= 64 else []
    return f"did you mean '{near[0]}'?" if near else "remove it"


def _explain(text: str, parameters: Parameters) -> BadRequest:
    if len(text) > _LONGEST_TEXT:  # it quotes the caller; the place is at the end
        text = text[: _LONGEST_TEXT // 2] + text[-_LONGEST_TEXT // 2 :]
    if (m := _UNKNOWN.fullmatch(text)) is not None:
        return unknown(m[1], _param(m[2]), parameters)
    if (m := _MISSING.fullmatch(text)) is not None:
        path = _param(m[2])
        return missing(f"{path}.{m[1]}" if path else m[1], parameters)
    m = _PLACE.fullmatch(text)
    problem, param = (m[1], _param(m[2])) if m is not None else (text, "")
    if not param:
        return BadRequest("the body must be one JSON object", code="invalid_json")
    top = _INDEX.sub("", param).split(".", 1)[0]
    if parameters.use(top) is Use.REFUSED:
        return BadRequest(
            f"'{top}' is not supported; {parameters.expects(top)}", code="unsupported_parameter", param=top
        )
    return _bad_value(param, problem, parameters)


def _bad_value(param: str, problem: str, parameters: Parameters) -> BadRequest:
    wrong_type = _WRONG_TYPE.fullmatch(problem)
    wanted = parameters.expects(_INDEX.sub("", param))
    if wrong_type is None:
        wanted_text = f"must be {wanted}" if wanted else f"is not accepted: {_plain(problem)}"
        return invalid(param, wanted_text)
    wanted = wanted or " or ".join(_WORDS.get(word, word) for word in wrong_type[1].split(" | ") if word != "null")
    got = _WORDS.get(wrong_type[2], wrong_type[2])
    return invalid(param, f"must be {wanted}, not {got}", code="invalid_type")


def _param(path: str | None) -> str:
    # "[...]" is how msgspec names the values of an object whose keys are free
    return (path or "").split("[...]", 1)[0].removeprefix(".")


def _plain(problem: str) -> str:
    text = shorten(problem.replace("`", ""))
    return text[:1].lower() + text[1:]


def _malformed(body: bytes, text: str) -> str:
    if not body.strip():
        return "the body is empty; send one JSON object"
    if "truncated" in text:
        return "the body is not valid JSON: it ends early, or a \\u escape in it is no character"
    reason = text.removeprefix("JSON is malformed: ")
    at = re.search(r"\(byte (\d+)\)", reason)
    if at is not None and body[int(at[1]) :].lstrip(b"-")[:3] in (b"NaN", b"Inf"):
        return "the body is not valid JSON: NaN and Infinity do not exist there; send null or leave the parameter out"
    return f"the body is not valid JSON: {shorten(reason)}; send one JSON object"
