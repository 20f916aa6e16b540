"""The rest of OpenAI's surface: routes that answer 501 in the envelope until they are built.

What it is: a table. A client that calls one of these learns that the appliance knows the route and does not
serve it, which is another answer than 404 for a mistyped path.
What it refuses to be: a stub that pretends. Nothing here ever answers 200.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from appliance.errors import ApplianceError, MethodNotAllowed, NotBuilt

_ANY = ("DELETE", "GET", "POST")


class Refusal(NamedTuple):
    """``pattern`` matches the path behind ``/v1`` whole; ``what`` completes "... not served"."""

    methods: tuple[str, ...]
    pattern: str
    what: str


_TREE = r"(?:/.*)?"

REFUSALS = (
    Refusal(("POST",), r"/embeddings", "embeddings are"),
    Refusal(("POST",), r"/moderations", "moderation is"),
    Refusal(("POST",), r"/edits", "edits are"),
    Refusal(("POST",), r"/audio/speech", "speech synthesis is"),
    Refusal(_ANY, rf"/audio/(?:voices|voice_consents){_TREE}", "custom voices are"),
    Refusal(("POST",), r"/images/(?:edits|generations|variations)", "image generation is"),
    Refusal(_ANY, rf"/videos{_TREE}", "video generation is"),
    Refusal(_ANY, rf"/responses{_TREE}", "the Responses API is"),
    Refusal(_ANY, rf"/conversations{_TREE}", "stored conversations are"),
    Refusal(("GET",), r"/chat/completions", "stored chat completions are"),
    Refusal(_ANY, r"/chat/completions/[^/]+(?:/messages)?", "stored chat completions are"),
    Refusal(("DELETE",), r"/models/.+", "deleting models over the API is"),
    Refusal(_ANY, rf"/files{_TREE}", "files are"),
    Refusal(_ANY, rf"/uploads{_TREE}", "uploads are"),
    Refusal(_ANY, rf"/batches{_TREE}", "batches are"),
    Refusal(_ANY, rf"/fine[_-]tun(?:ing|es){_TREE}", "fine-tuning is"),
    Refusal(_ANY, rf"/evals{_TREE}", "evals are"),
    Refusal(_ANY, rf"/(?:assistants|threads){_TREE}", "the Assistants API is"),
    Refusal(_ANY, rf"/vector_stores{_TREE}", "vector stores are"),
    Refusal(_ANY, rf"/(?:realtime|live){_TREE}", "the Realtime API is"),
    Refusal(_ANY, rf"/(?:agents|chatkit|skills|vaults){_TREE}", "hosted agents are"),
    Refusal(_ANY, rf"/containers{_TREE}", "containers are"),
    Refusal(_ANY, rf"/(?:organization|projects){_TREE}", "OpenAI's administration API is"),
    Refusal(_ANY, rf"/(?:webhook_endpoints|webhook_event_types){_TREE}", "webhooks are"),
    Refusal(_ANY, rf"/(?:decisions|safety|content_provenance_checks){_TREE}", "hosted safety services are"),
)

_COMPILED = tuple((re.compile(f"/v1{r.pattern}/?"), r) for r in REFUSALS)


def refusal_for(method: str, path: str) -> ApplianceError | None:
    """501 for a route of OpenAI's that is not built, 405 for one that has no such method, None for neither."""
    if method == "HEAD":
        method = "GET"
    allowed: set[str] = set()
    for pattern, refusal in _COMPILED:
        if pattern.fullmatch(path) is None:
            continue
        if method in refusal.methods:
            return NotBuilt(f"{refusal.what} not served by this appliance; see docs/api.md for what is")
        allowed.update(refusal.methods)
    if not allowed or path.rstrip("/") == "/v1/chat/completions" or path.startswith("/v1/models/"):
        return None  # served with other methods; the router knows which
    return MethodNotAllowed(
        f"{path[:200]} does not take {method[:20]}; use {', '.join(sorted(allowed))}",
        headers={"allow": ", ".join(sorted(allowed))},
    )
