"""What goes wrong on the way to Gemini, as the appliance's errors.

What it is: one function over google-genai's exceptions and those of the HTTP client below it that it does not wrap.
What it refuses to be: a carrier of prompts or keys. Google's own text passes only where a caller can mend the request;
exceptions that quote what they read (``UnknownApiResponseError``) are replaced whole.
"""

from __future__ import annotations

import re
from typing import Any

from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    RateLimited,
    TooLarge,
)

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")
_LONGEST_TEXT = 500


def mapped(error: Exception) -> ApplianceError:
    """``error`` as ours. What is unknown is an engine error that names its class and nothing else."""
    if isinstance(error, ApplianceError):
        return error
    import httpx2
    from google.genai import errors

    match error:
        case errors.APIError():
            return _answered(error)
        case errors.UnknownApiResponseError():
            return EngineFailed("Gemini sent something that is not valid JSON")
        case TimeoutError() | httpx2.ReadTimeout() | httpx2.WriteTimeout():
            return DeadlineExceeded("Gemini did not answer in time; ask for less, or try again", code="engine_silent")
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout() | httpx2.ProxyError():
            return EngineUnavailable(
                f"Gemini cannot be reached ({type(error).__name__}); check this box's way out",
                code="hosted_unreachable",
            )
        case httpx2.RemoteProtocolError() | httpx2.ReadError() | httpx2.WriteError():
            return EngineFailed("the connection to Gemini broke before its answer was complete", code="stream_cut")
        case httpx2.DecodingError() | ValueError():  # a body that is no JSON, or JSON of another shape
            return EngineFailed("Gemini sent something that is not an answer")
    return EngineFailed(f"the hosted process failed on this answer ({type(error).__name__}); see its log")


def _answered(error: Any) -> ApplianceError:
    """An error that Google answered, before or inside a stream."""
    code = error.code if isinstance(error.code, int) else 0
    text = str(error.message or error.status or "")[:_LONGEST_TEXT]
    match code:
        case 400 | 422:
            if _is_key(error):
                return _key(error)
            context = "token count" in text and "exceeds" in text
            return BadRequest(
                f"Gemini refused the request: {text}", code="context_length_exceeded" if context else None
            )
        case 401 | 403:
            return _key(error)
        case 404:
            return EngineUnavailable(
                "Gemini does not know this model in this region; check models and region of the engine",
                code="hosted_model_unknown",
            )
        case 408 | 504:
            return DeadlineExceeded("Gemini gave up on the request; ask for less, or try again")
        case 413:
            return TooLarge("Gemini takes no request this large; send less")
        case 429:
            return RateLimited(
                "Gemini's quota or spend limit for this project is used up; try again later",
                code="hosted_rate_limited",
                headers=_retry_after(error),
            )
        case 503:
            return EngineUnavailable(
                "Gemini is overloaded; try again later", code="hosted_overloaded", headers=_retry_after(error)
            )
    return EngineFailed(f"Gemini failed with status {code}; try again", headers=_retry_after(error))


def _is_key(error: Any) -> bool:
    """A wrong API key is a 400 with Google's reason beside it."""
    return any(detail.get("reason") in ("API_KEY_INVALID", "API_KEY_EXPIRED") for detail in _details(error))


def _key(error: Any) -> ApplianceError:
    return EngineUnavailable(
        "Google refused this appliance's key or its project; check api_key_file of the hosted engine",
        code="hosted_key_refused",
    )


def _details(error: Any) -> list[dict[str, Any]]:
    """Google's ``details``, wherever the client left them."""
    body = error.details
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    details = body.get("details") if isinstance(body, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _retry_after(error: Any) -> dict[str, str]:
    """Seconds to wait: the header, else Google's RetryInfo; empty where neither says."""
    headers = getattr(error.response, "headers", None) or {}
    value = headers.get("retry-after") or headers.get("Retry-After")
    if isinstance(value, str) and value.strip().isdigit():
        return {"retry-after": value.strip()}
    for detail in _details(error):
        found = _SECONDS.fullmatch(str(detail.get("retryDelay", "")))
        if found is not None:
            return {"retry-after": str(max(1, -(-int(float(found[1]) * 1000) // 1000)))}
    return {}
