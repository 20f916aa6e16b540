"""One admin route: who may, what comes in strictly, what goes out; and the handler that holds all of them to it.

What it is: ``AdminRoute`` (a row of the table), ``Asked`` (what a handler is given) and ``endpoint``, which checks the
role before it looks at anything else, so that a caller who may not learns nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from appliance.api.http import Exchange
from appliance.api.parameters import Parameters, Rule, Use
from appliance.api.service import Service
from appliance.api.strictjson import convert, decode, shorten
from appliance.errors import ApplianceError, BadRequest, Conflict, Forbidden, NotFound
from appliance.types import Key, Role

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.ledger.stores.changes import Actor

T = TypeVar("T")
RANK: dict[Role, int] = {"client": 0, "operator": 1, "admin": 2}
BODY_BYTES = 64 * 1024
_MOST_FIELDS = 32
_HEARD_WITHIN_S = 1.0
_PLAIN = re.compile(r"[!-~]{1,128}")  # every id there can be, and nothing that a database could choke on

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
Cursor = Annotated[str, Meta(min_length=1, max_length=1024, description="'next' of the part before")]
PartSize = Annotated[int, Meta(ge=1, le=1000, description="an integer from 1 to 1000")]
OfTenant = Annotated[Name | None, Meta(description="a tenant's id; for operators their own")]
UnixMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]


class Listing(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What every list takes."""

    cursor: Cursor | None = None
    limit: PartSize = 50


class OneOf(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Of whom, where an id alone does not say it: the tenant of the key that asks, unless it is named."""

    tenant: OfTenant = None


class Nothing(Struct, forbid_unknown_fields=True, frozen=True):
    """A route that takes no parameters."""


class Answer(Struct, Generic[T], frozen=True):
    """A part of a list. ``next`` is the cursor of the following part, null at the end."""

    data: list[T]
    next: str | None
    has_more: bool
    object: Literal["list"] = "list"


class Asked:
    """Who asks, and the store. A handler gets it with its checked query and body."""

    def __init__(self, service: Service, key: Key, path: dict[str, str]) -> None:
        self.service = service
        self.key = key
        self.path = path

    @property
    def engine(self) -> Engine:
        """The ledger."""
        return self.service.store()

    @property
    def actor(self) -> Actor:
        """For the audit: the key's id."""
        from appliance.ledger.stores.changes import Actor

        return Actor(self.key.id, lambda: self.service.now_ms() / 1000)

    @property
    def everywhere(self) -> bool:
        """Whether all tenants are open to it."""
        return self.key.role == "admin"

    @property
    def scope(self) -> str | None:
        """What a look-up by id is held to: a tenant, or None for all."""
        return None if self.everywhere else self.key.tenant.id

    def tenants(self, wanted: str | None) -> str | None:
        """Of whom a list is: a tenant, or None for all. Raises LookupError."""
        if wanted is None:
            return self.scope
        return self.tenant(wanted)

    def tenant(self, wanted: str | None) -> str:
        """Of whom one thing is. Raises LookupError, the same for a tenant that is not there and one not to be seen."""
        from appliance.ledger.stores import tenants

        own = self.key.tenant.id
        if wanted is None or wanted == own:
            return own
        if not self.everywhere:
            raise LookupError(f"there is no tenant {wanted[:80]!r}; `appliance tenants list` shows the tenants")
        return tenants.get(self.engine, wanted).id


Handler = Callable[[Asked, Any, Any], Any]


class AdminRoute(Struct, frozen=True):
    """A row of the table. ``role`` is the least that may; ``answer`` the type of what goes out.

    It is written as ``module.Name`` under ``ledger`` (``[]`` before it: a list of them), because those modules
    load SQLAlchemy, which a gateway that nobody administers never needs.
    """

    method: Literal["GET", "POST", "PATCH"]
    path: str
    role: Literal["operator", "admin"]
    handler: Handler
    answer: str
    summary: str
    query: type[Struct] = Nothing
    body: type[Struct] | None = None

    @property
    def changes(self) -> bool:
        """Whether it writes."""
        return self.method != "GET"


def listed(page: Any) -> Any:
    """A store's page as it goes out."""
    return Answer(page.items, page.next, page.next is not None)


def phrases(kind: type[Struct]) -> Parameters:
    """What the fields of ``kind`` must be, for messages, from their descriptions."""
    rules = {}
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        extra = getattr(field.type, "extra_json_schema", None) or {}
        rules[field.encode_name] = Rule(Use.MAPPED, str(extra.get("description", "")))
    return Parameters(rules, {}, {})


def endpoint(service: Service, route: AdminRoute) -> Callable[[Exchange], Awaitable[None]]:
    """The handler of ``route`` over ``service``."""
    query_phrases = phrases(route.query)
    body_phrases = None if route.body is None else phrases(route.body)
    decoder = None if route.body is None else msgspec.json.Decoder(route.body)

    async def handle(exchange: Exchange) -> None:
        key = permitted(service.authenticate(exchange), route.role)
        # without a slot of server.max_in_flight: an overload is when operators are needed
        async with service.upload_time():
            raw = await exchange.body(BODY_BYTES, "the size of an admin request")
        key = permitted(service.authenticate(exchange), route.role)  # it may have been revoked meanwhile
        query = convert(_query(exchange), route.query, query_phrases)
        body = None
        if decoder is not None and body_phrases is not None:
            body = decode(raw, decoder, body_phrases)
        elif raw:
            raise BadRequest("this route takes no body; leave it out")
        asked = Asked(service, key, _path(exchange))
        found = await asyncio.to_thread(_done, route, asked, query, body)
        await exchange.respond(200, msgspec.json.encode(found), headers={"cache-control": "no-store"})

    return handle


def permitted(key: Key, least: Role) -> Key:
    """``key``, if its role is enough. Raises Forbidden."""
    if RANK[key.role] < RANK[least]:
        which = "operator or admin" if least == "operator" else "admin"
        raise Forbidden(f"this route needs a key of role {which}")
    return key


def _done(route: AdminRoute, asked: Asked, query: Any, body: Any) -> Any:
    try:
        found = route.handler(asked, query, body)
    except Exception as e:
        # exactly these: a KeyError is a fault of ours and no 404
        if (error := _refusal(e)) is None:
            raise
        raise error from None
    if route.changes:
        _wait_until_heard(asked.service)
    return found


def _refusal(error: Exception) -> ApplianceError | None:
    """What a store refuses, as callers see it."""
    from appliance.ledger.said import Unsayable
    from appliance.ledger.stores.values import Taken

    text = str(error.args[0]) if error.args else ""
    if isinstance(error, Taken):
        return Conflict(text, code="already_exists")
    if type(error) is LookupError:
        return NotFound(text)
    if isinstance(error, Unsayable):
        return BadRequest(text, code="invalid_value", param=error.field)
    if type(error) is ValueError:
        return BadRequest(text, code="invalid_value")
    return None


def _wait_until_heard(service: Service) -> None:
    """A new key works, and a revoked one does not, by the time its maker reads the answer; a second at most."""
    from sqlalchemy import text

    from appliance.ledger.core import reading

    with reading(service.store()) as connection:
        version = int(connection.execute(text("SELECT value FROM meta WHERE name = 'auth_version'")).scalar() or 0)
    give_up = time.monotonic() + _HEARD_WITHIN_S
    while service.ledger.version < version and time.monotonic() < give_up:
        time.sleep(0.01)


def _path(exchange: Exchange) -> dict[str, str]:
    found = {name: str(value) for name, value in exchange.scope["path_params"].items()}
    for value in found.values():
        if _PLAIN.fullmatch(value) is None:
            raise NotFound(f"there is nothing called '{shorten(value)}'")
    return found


def _query(exchange: Exchange) -> dict[str, str]:
    """The query string, each name once. Raises BadRequest."""
    raw: bytes = exchange.scope.get("query_string", b"")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise BadRequest("the query string is not understood; write it as name=value&name=value in UTF-8") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise BadRequest(f"'{shorten(name)}' is given twice; send it once", param=shorten(name))
        if not value.isprintable():
            raise BadRequest(f"'{shorten(name)}' holds characters that cannot be printed", param=shorten(name))
        found[name] = value
    return found
