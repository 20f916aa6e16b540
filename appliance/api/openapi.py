"""``GET /openapi.json``: the whole API as OpenAPI 3.1, made of the types that the decoders are made of.

What it is: a table of the routes that are not administration, the admin table, and the parameter tables, turned into
one document by ``msgspec.json.schema_components``. A test walks the application's routes and misses none here.
What it refuses to be: written by hand, or a promise about engines: their answers pass through as they are.
What it costs: 30 ms and SQLAlchemy, in a thread, when it is first asked for; nothing before.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

import appliance
from appliance.api.admin import ROUTES, AdminRoute
from appliance.api.audio_languages import HeardLanguages, HeardQuery
from appliance.api.conversations import ConversationAnswer, OutcomeBody, RecordedOutcome
from appliance.api.handoff import Handoff, HandoffBody
from appliance.api.http import Exchange
from appliance.api.openapi_shapes import (
    ChatCompletion,
    Completion,
    DetectedTexts,
    ErrorAnswer,
    Live,
    ModelCard,
    ModelList,
    Readiness,
    SpokenLanguage,
    Transcription,
    TranscriptionJob,
    Translations,
    WrittenTexts,
)
from appliance.api.parameters import CHAT, COMPLETIONS, TRANSCRIPTION, Parameters, Use
from appliance.api.params_chat import ChatFields
from appliance.api.params_completions import CompletionFields
from appliance.api.params_texts import (
    DETECT,
    TRANSLATE,
    TRANSLITERATE,
    DetectFields,
    TranslateFields,
    TransliterateFields,
)

_Json = dict[str, Any]
_REF = "#/components/schemas/{name}"
_PLACEHOLDER = re.compile(r"\{(\w+)(?::\w+)?\}")
_STREAM = "text/event-stream"
JOBS = "/v1/audio/transcriptions/jobs"
_TEXT = "text/plain"


class Doc(Struct, frozen=True):
    """A route that is not administration. ``tag`` groups; ``media`` is what else it may answer with."""

    method: Literal["DELETE", "GET", "POST"]
    path: str
    tag: str
    summary: str
    answer: type[Struct] | None
    body: type[Struct] | None = None
    form: Parameters | None = None
    media: tuple[str, ...] = ()
    secured: bool = True
    status: str = "200"
    query: type[Struct] | None = None


DOCS = (
    Doc(
        "POST", "/v1/chat/completions", "Models", "Answer a conversation", ChatCompletion, ChatFields, media=(_STREAM,)
    ),
    Doc("POST", "/v1/completions", "Models", "Go on with a text", Completion, CompletionFields, media=(_STREAM,)),
    Doc(
        "POST",
        "/v1/audio/transcriptions",
        "Models",
        "Write down what is said",
        Transcription,
        form=TRANSCRIPTION,
        media=(_STREAM, _TEXT),
    ),
    Doc(
        "POST",
        "/v1/audio/translations",
        "Models",
        "Translate what is said",
        Transcription,
        form=TRANSCRIPTION,
        media=(_TEXT,),
    ),
    Doc(
        "POST", JOBS, "Models", "Write down a long recording, later", TranscriptionJob, form=TRANSCRIPTION, status="202"
    ),
    Doc("GET", JOBS + "/{id}", "Models", "How a transcription job stands", TranscriptionJob),
    Doc("GET", JOBS + "/{id}/result", "Models", "What came of a transcription job", Transcription, media=(_TEXT,)),
    Doc("DELETE", JOBS + "/{id}", "Models", "Stop and remove a transcription job", TranscriptionJob),
    Doc(
        "POST",
        "/v1/audio/detect-language",
        "Models",
        "Tell what language is spoken",
        SpokenLanguage,
        form=TRANSCRIPTION,
    ),
    Doc("GET", "/v1/audio/languages", "Models", "Which languages are heard", HeardLanguages, query=HeardQuery),
    Doc("POST", "/v1/detect-language", "Models", "Tell the language of texts", DetectedTexts, DetectFields),
    Doc("POST", "/v1/transliterate", "Models", "Write texts in another script", WrittenTexts, TransliterateFields),
    Doc("POST", "/v1/translate", "Models", "Translate texts", Translations, TranslateFields, media=(_STREAM,)),
    Doc("GET", "/v1/models", "Models", "What is served", ModelList),
    Doc("GET", "/v1/models/{model}", "Models", "One model", ModelCard),
    Doc("GET", "/v1/conversations/{id}", "Conversations", "A conversation with its outcomes", ConversationAnswer),
    Doc(
        "POST",
        "/v1/conversations/{id}/outcome",
        "Conversations",
        "Say what became of a conversation",
        RecordedOutcome,
        OutcomeBody,
    ),
    Doc(
        "POST",
        "/v1/conversations/{id}/handoff",
        "Conversations",
        "What a person needs who takes over a conversation",
        Handoff,
        HandoffBody,
    ),
    Doc("GET", "/health/live", "Operation", "Whether the process answers", Live, secured=False),
    Doc("GET", "/health/ready", "Operation", "Whether every engine takes requests", Readiness, secured=False),
    Doc("GET", "/metrics", "Operation", "Prometheus, for operators", None, media=(_TEXT,)),
    Doc("GET", "/openapi.json", "Operation", "This document", None, media=("application/json",), secured=False),
)
# of a Struct, what a caller must send although the decoder says so itself (in the words of OpenAI)
_REQUIRED = {
    "ChatFields": ["model"],
    "CompletionFields": ["model", "prompt"],
    "DetectFields": ["input"],
    "TransliterateFields": ["input", "target"],
    "TranslateFields": ["input", "target"],
}
_RULES = {
    "ChatFields": CHAT,
    "CompletionFields": COMPLETIONS,
    "DetectFields": DETECT,
    "TransliterateFields": TRANSLITERATE,
    "TranslateFields": TRANSLATE,
}


def openapi_route() -> Callable[[Exchange], Awaitable[None]]:
    """The handler; the document is made once."""
    made: list[bytes] = []

    async def handle(exchange: Exchange) -> None:
        if not made:
            made.append(await asyncio.to_thread(lambda: msgspec.json.encode(document())))
        await exchange.respond(200, made[0])

    return handle


def document() -> _Json:
    """The whole document."""
    schemas = _Schemas()
    paths: dict[str, _Json] = {}
    for doc in DOCS:
        paths.setdefault(doc.path, {})[doc.method.lower()] = _operation(doc, schemas)
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _admin_operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inference appliance",
            "version": appliance.__version__,
            "description": "A local-first inference appliance with OpenAI's API. Errors are always OpenAI's envelope.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in ("Models", "Conversations", "Administration", "Operation")],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Error": {"description": "OpenAI's envelope", "content": _content(schemas.of(ErrorAnswer))},
            },
            "schemas": schemas.all(),
        },
    }


def plain(path: str) -> str:
    """A route's path as OpenAPI writes it: without converters."""
    return _PLACEHOLDER.sub(r"{\1}", path)


class _Schemas:
    """Collects the types that are referred to."""

    def __init__(self) -> None:
        self._kinds: dict[Any, None] = {}

    def of(self, kind: Any) -> _Json:
        """A reference to ``kind``."""
        self._kinds.setdefault(kind)
        return {"$ref": _REF.format(name=kind.__name__)}

    def all(self) -> _Json:
        """The components."""
        _, components = msgspec.json.schema_components(list(self._kinds), ref_template=_REF)
        for name, rules in _RULES.items():
            _tell(components[name], rules, _REQUIRED[name])
        return components


def _tell(schema: _Json, rules: Parameters, required: list[str]) -> None:
    """The parameter table's words, and none of what is refused."""
    for name in list(schema["properties"]):
        if rules.use(name) is Use.REFUSED:
            del schema["properties"][name]
        else:
            schema["properties"][name]["description"] = rules.expects(name)
    schema["required"] = sorted({*schema.get("required", ()), *required})


def _operation(doc: Doc, schemas: _Schemas) -> _Json:
    content = {} if doc.answer is None else _content(schemas.of(doc.answer))
    content |= {media: {"schema": {} if media == "application/json" else {"type": "string"}} for media in doc.media}
    found = _common(doc.method, doc.path, doc.tag, doc.summary, content)
    if doc.query is not None:
        found["parameters"] += _query(doc.query)
    if doc.body is not None:
        found["requestBody"] = {"required": True, "content": _content(schemas.of(doc.body))}
    if doc.form is not None:
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _form(doc.form)}}}
    if doc.status != "200":
        found["responses"][doc.status] = found["responses"].pop("200")
    if not doc.secured:
        found["security"] = []
    if doc.path == "/health/ready":
        found["responses"]["503"] = {"description": "an engine is not ready", "content": content}
    return found


def _admin_operation(route: AdminRoute, schemas: _Schemas) -> _Json:
    module, _, name = route.answer.removeprefix("[]").rpartition(".")
    one = schemas.of(getattr(importlib.import_module(f"appliance.ledger.{module}"), name))
    schema = _listing(one) if route.answer.startswith("[]") else one
    found = _common(route.method, route.path, "Administration", route.summary, _content(schema))
    found["description"] = f"Needs a key of role {'operator or admin' if route.role == 'operator' else 'admin'}."
    found["parameters"] += _query(route.query)
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": _content(schemas.of(route.body))}
    return found


def _common(method: str, path: str, tag: str, summary: str, content: _Json) -> _Json:
    words = re.findall(r"\w+", path)
    return {
        "operationId": "_".join([method.lower(), *words]),
        "tags": [tag],
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PLACEHOLDER.findall(path)
        ],
        "responses": {
            "200": {"description": "done", "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _query(kind: type[Struct]) -> list[_Json]:
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    found = []
    for name, schema in components[kind.__name__]["properties"].items():
        choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
        schema = {**schema, **(choices[0] if len(choices) == 1 else {})}
        if "enum" in schema:
            schema["enum"] = [value for value in schema["enum"] if value is not None]
        if schema.get("default", 0) is None:
            del schema["default"]
        text = schema.pop("description", "")
        found.append({"name": name, "in": "query", "description": text, "schema": schema})
    return found


def _form(rules: Parameters) -> _Json:
    properties: _Json = {
        name: {"type": "string", "description": rules.expects(name)} for name in rules.accepted() if name != "file"
    }
    properties["file"] = {"type": "string", "format": "binary", "description": rules.expects("file")}
    properties["timestamp_granularities"] = {
        "type": "array",
        "items": {"enum": ["word", "segment"]},
        "description": rules.expects("timestamp_granularities"),
    }
    for name in ("languages", "keywords", "known_speaker_names"):
        properties[name] |= {"type": "array", "items": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": ["file", "model"], "additionalProperties": False}


def _listing(one: _Json) -> _Json:
    return {
        "type": "object",
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": one},
            "next": {"type": ["string", "null"], "description": "the cursor of the following part, null at the end"},
            "has_more": {"type": "boolean"},
        },
        "required": ["object", "data", "next", "has_more"],
    }


def _content(schema: _Json) -> _Json:
    return {"application/json": {"schema": schema}}
