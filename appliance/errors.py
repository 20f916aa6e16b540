"""One hierarchy of errors that callers can see, and its OpenAI envelope.

What it is: every error that may leave the appliance is an ``ApplianceError`` with a status, a type,
a code and one sentence that names the fix. ``envelope()`` renders
``{"error": {"message", "type", "param", "code"}}``, the only shape OpenAI clients parse.
What it refuses to be: a carrier of internals. Engine texts pass only where an adapter chose them.
"""

from __future__ import annotations

import msgspec

from appliance.types import Partial, Usage


class ApplianceError(Exception):
    """Base: ``status`` is the HTTP status, ``code`` a stable machine-readable word.

    ``partial`` is what had been passed on of a plain text when a stream broke off; another engine may go on with it.
    ``usage`` is what had been computed by then, as far as the engine said or can be counted.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    partial: Partial | None = None
    usage: Usage | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers or {}
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def envelope(self) -> bytes:
        """The JSON body OpenAI clients expect, UTF-8."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


class BadRequest(ApplianceError):
    """400: the caller can mend the request; ``param`` names what to mend."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unauthorized(ApplianceError):
    """401: no key, or a key this appliance does not know (or no longer)."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class BudgetExceeded(ApplianceError):
    """402: a cap of the tenant or the key is spent. OpenAI's clients retry 402 unless told not to."""

    status = 402
    type = "insufficient_quota"
    code = "budget_exceeded"


class Forbidden(ApplianceError):
    """403: a known key that may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ApplianceError):
    """404: no such route or model."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApplianceError):
    """405: the route exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ApplianceError):
    """409: it contradicts what is there, such as an Idempotency-Key that came with another body."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class UploadTooSlow(ApplianceError):
    """408: the request itself did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "upload_too_slow"


class TooLarge(ApplianceError):
    """413: over a limit; the message names the limit and the setting that moves it."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class RateLimited(ApplianceError):
    """429: too much at once; ``Retry-After`` says when to come back."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"


class NotBuilt(ApplianceError):
    """501: part of OpenAI's surface that this appliance does not serve yet."""

    status = 501
    type = "invalid_request_error"
    code = "not_implemented"


class EngineFailed(ApplianceError):
    """502: an engine answered with something that is not an answer, or broke off."""

    status = 502
    type = "server_error"
    code = "engine_failed"


class EngineGone(EngineFailed):
    """502: an engine's process or connection ended in the middle of its answer."""


class EngineUnavailable(ApplianceError):
    """503: no engine can take this now; clients may try again."""

    status = 503
    type = "server_error"
    code = "engine_unavailable"


class LedgerUnavailable(ApplianceError):
    """503: the request could not be recorded, so it was not run (or its answer not released)."""

    status = 503
    type = "server_error"
    code = "ledger_unavailable"


class DeadlineExceeded(ApplianceError):
    """504: the engine did not answer within the request's deadline."""

    status = 504
    type = "server_error"
    code = "deadline_exceeded"
