"""``appliance.toml`` and the environment, turned into one frozen ``Settings``, built once, passed in.

What it is: the only place that reads ``APPLIANCE_HOME/appliance.toml`` and ``APPLIANCE_*``. The file
is checked whole on load: an unknown key is an error that names it and the nearest known one.
What it refuses to be: a module-level object. Nobody imports settings; everybody is handed them.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from appliance.languages import UnknownLanguage, language_of, resolve
from appliance.settings_hosted import DEFAULT_MODEL, HostedSettings, check_hosted
from appliance.types import EngineKind, Task

# AF_UNIX addresses end at 108 bytes on Linux; "NAME.sock" and vllm's own 36-character IPC names
# have to fit behind the directory, so the directory itself is held to 60 bytes fewer.
SOCKET_PATH_LIMIT = 100
_LONGEST_SOCKET_NAME = 40


class SettingsError(Exception):
    """The configuration cannot be used; the text is one sentence that says what to change."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServerSettings(_Strict):
    """Where the gateway listens and what it accepts. Sizes in bytes, times in seconds.

    ``engine_silence_s`` bounds the gap between two reads from an engine, ``request_deadline_s`` the whole.
    ``drain_s``: how long requests may finish after a stop was asked for; ``swap_wait_s``: how long they wait for a
    model that is being swapped in.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    max_audio_bytes: int = Field(default=25 * 1024 * 1024, ge=1024)
    max_in_flight: int = Field(default=1024, ge=1)
    request_deadline_s: float = Field(default=600.0, gt=0)
    engine_silence_s: float = Field(default=120.0, gt=0)
    drain_s: float = Field(default=20.0, ge=0)
    swap_wait_s: float = Field(default=60.0, ge=0)


class SiteSettings(_Strict):
    """``networks``: CIDR blocks of this site, where an attached engine still counts as local.

    ``timezone``: where months, and with them budgets and reports, begin and end.
    """

    networks: tuple[str, ...] = ()
    timezone: str = "Asia/Kolkata"

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is not a time zone; write one such as Asia/Kolkata") from None
        return value

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for block in value:
            try:
                ipaddress.ip_network(block)
            except ValueError as e:
                raise ValueError(f"{block!r} is not a network such as 10.0.0.0/8: {e}") from None
        return value


class SpeechSettings(_Strict):
    """``prefer``: which speech model a language goes to, by its code, before what the catalogue says.

    ``script_check``: whether a transcript in another script than its language's is tried on another engine.
    ``jobs_at_once``, ``job_deadline_s``, ``job_keep_s``: how many jobs run beside each other, how long one may take,
    how long its result is kept. ``webhook_hosts``: the origins (``https://host``) on this site that may be told of a
    job's end, signed with the ``whsec_…`` secret in ``webhook_secret_file``.
    """

    prefer: dict[str, str] = Field(default_factory=dict)
    script_check: bool = True
    jobs_at_once: int = Field(default=1, ge=1, le=64)
    job_deadline_s: float = Field(default=6 * 3600.0, gt=0)
    job_keep_s: float = Field(default=24 * 3600.0, gt=0)
    webhook_hosts: tuple[str, ...] = ()
    webhook_secret_file: str | None = None

    @field_validator("prefer")
    @classmethod
    def _codes(cls, value: dict[str, str]) -> dict[str, str]:
        try:
            return {language_of(resolve(code).tag).bcp47: model for code, model in value.items()}
        except UnknownLanguage as e:
            raise ValueError(e.message) from None

    @model_validator(mode="after")
    def _signed(self) -> SpeechSettings:
        if self.webhook_hosts and self.webhook_secret_file is None:
            raise ValueError("webhook_hosts needs webhook_secret_file: what is sent there is signed")
        for origin in self.webhook_hosts:
            url = urlsplit(origin)
            if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
                raise ValueError(f"webhook_hosts: {origin!r} is no origin; write one such as https://hooks.example.in")
        return self


class LiveSettings(_Strict):
    """``appliance live``, which ``appliance serve`` starts where a speech engine is set and ``enabled`` is true.

    ``port``: 0 is the gateway's plus one. ``partial_s``: audio between two looks at a turn that still goes on, 0 for
    none; ``ahead_ms``: quiet after which its last pass begins, 0 for none before it is over. ``idle_s`` without a
    command closes a socket, ``resume_s`` after a cut ends a session, ``session_s`` ends any.
    """

    enabled: bool = True
    port: int = Field(default=0, ge=0, le=65535)
    partial_s: float = Field(default=1.0, ge=0)
    ahead_ms: float = Field(default=100.0, ge=0)
    sessions_a_key: int = Field(default=16, ge=1)
    sessions: int = Field(default=256, ge=1)
    idle_s: float = Field(default=60.0, gt=0)
    resume_s: float = Field(default=30.0, ge=0)
    session_s: float = Field(default=4 * 3600.0, gt=0)


class LedgerSettings(_Strict):
    """Where the ledger is: a PostgreSQL ``url``, or ``url_file`` that holds one; by default HOME/ledger.db."""

    url: str | None = Field(default=None, repr=False)
    url_file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> LedgerSettings:
        if self.url is not None and self.url_file is not None:
            raise ValueError("give url or url_file, not both")
        if self.url is not None and not self.url.startswith(("postgresql://", "postgres://")):
            raise ValueError("url must start with postgresql://; leave it out for HOME/ledger.db")
        return self


class MemorySettings(_Strict):
    """``request_tokens``: prompt and answer of a typical request, for which the memory plan makes room."""

    request_tokens: int = Field(default=2048, ge=16)


class LogSettings(_Strict):
    """How the gateway and the engines log. A full file is set aside; ``keep`` of those stay."""

    format: Literal["text", "json"] = "text"
    max_bytes: int = Field(default=50 * 1024 * 1024, ge=4096)
    keep: int = Field(default=5, ge=1, le=1000)


class TracingSettings(_Strict):
    """OpenTelemetry traces, off without ``otlp_endpoint``: a collector's OTLP/HTTP base URL, on this site.

    ``sample``: the share of requests that are traced; a caller that traces its own request decides for it.
    """

    otlp_endpoint: str | None = None
    sample: float = Field(default=1.0, ge=0, le=1)

    @field_validator("otlp_endpoint")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = urlsplit(value)
            good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"{value!r} is not the address of a collector; give http://127.0.0.1:4318")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("otlp_endpoint must be a plain base URL; put credentials into OTEL_EXPORTER_OTLP_HEADERS")
        return value.rstrip("/")


class EngineSettings(_Strict):
    """One engine. ``model`` names a catalogue entry; ``openai`` engines name an address instead.

    ``models``: what an ``openai``, ``fake`` or ``hosted`` engine answers to; further catalogue entries that a
    ``translate`` engine holds beside ``model``, for other directions.
    ``hosted``: where a ``hosted`` engine's models run and what may go there (docs/hosted.md).

    ``kv_cache_bytes``: vllm's KV cache (of each GPU it is on); the memory plan decides where it is not set.
    ``gpus``: which it runs on, by nvidia-smi's numbers, empty for none; the plan decides where it is not set.
    ``threads``: CPU threads of the engine, 0 = its own default.
    ``gpu_percent``: the share of a GPU's multiprocessors it may use at a time where NVIDIA MPS runs, 0 = all.
    ``heartbeat_s``: how long it may stand still under requests, beside what a step takes (docs/supervision.md).
    """

    kind: EngineKind
    task: Task = "chat"
    model: str | None = None
    url: str | None = None
    socket: str | None = None
    api_key_file: str | None = None
    models: tuple[str, ...] = ()
    kv_cache_bytes: int | None = Field(default=None, ge=1024 * 1024)
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    max_context_tokens: int = Field(default=0, ge=0)
    max_concurrent: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)
    gpu_percent: int = Field(default=0, ge=0, le=100)
    ready_within_s: float = Field(default=600.0, gt=0)
    heartbeat_s: float = Field(default=30.0, gt=0)
    extra_args: tuple[str, ...] = ()
    hosted: HostedSettings = HostedSettings()

    @model_validator(mode="before")
    @classmethod
    def _task_of_kind(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("kind") == "conformer":
            return {"task": "transcribe", **data}
        if isinstance(data, dict) and data.get("kind") == "hosted":
            return {"models": (DEFAULT_MODEL,), **data}
        return data

    @model_validator(mode="after")
    def _addressed(self) -> EngineSettings:
        if self.kind == "openai" and (self.url is None) == (self.socket is None):
            raise ValueError('an engine of kind "openai" needs exactly one of url and socket')
        if self.kind == "hosted":
            check_hosted(self.hosted, self.url, self.api_key_file)
        elif self.hosted != HostedSettings():
            raise ValueError('a section "hosted" belongs to engines of kind "hosted"; remove it, or change the kind')
        if self.kind in ("vllm", "whisper", "conformer", "translate") and self.model is None:
            raise ValueError(f'an engine of kind "{self.kind}" needs model = "<catalogue name>"')
        return self

    @property
    def elsewhere(self) -> str:
        """Where it runs if this user does not start it: an address, or the directory of a hosted process' socket."""
        if self.kind == "openai":
            return str(self.url or self.socket)
        return self.hosted.run_dir or ""

    @property
    def served(self) -> tuple[str, ...]:
        """The names it answers to, as far as they are set."""
        own = (self.model,) if self.model is not None else ()
        return (*own, *self.models) if self.kind == "translate" else self.models or own


def _default_engines() -> dict[str, EngineSettings]:
    return {
        "chat": EngineSettings(kind="vllm", task="chat", model="smollm2-135m-instruct"),
        "transcribe": EngineSettings(kind="whisper", task="transcribe", model="whisper-base"),
        "translate": EngineSettings(kind="translate", task="translate", model="indictrans2-embedded"),
    }


def _default_aliases(engines: Mapping[str, EngineSettings]) -> dict[str, str]:
    """Names that clients already use, for the first chat and the first speech engine that name a model."""
    first: dict[Task, str] = {}
    for engine in engines.values():
        model = engine.model or next(iter(engine.models), None)
        if model is not None:
            first.setdefault(engine.task, model)
    aliases = {"default": first.get("chat"), "whisper-1": first.get("transcribe")}
    aliases["gpt-4o-transcribe"] = aliases["whisper-1"]
    aliases["translate"] = first.get("translate")
    return {alias: model for alias, model in aliases.items() if model is not None}


class SloSettings(_Strict):
    """What the answers to an intent should keep to, in milliseconds; the report compares with it."""

    ttft_p95_ms: float | None = Field(default=None, gt=0)
    total_p95_ms: float | None = Field(default=None, gt=0)


# Part of socket and file names in the run directory; "control" is the gateway's own.
EngineName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]


class Settings(_Strict):
    """Everything an operator can set. ``home`` and ``run`` are absolute directories."""

    home: Path
    run: Path
    server: ServerSettings = ServerSettings()
    site: SiteSettings = SiteSettings()
    ledger: LedgerSettings = LedgerSettings()
    speech: SpeechSettings = SpeechSettings()
    live: LiveSettings = LiveSettings()
    memory: MemorySettings = MemorySettings()
    logs: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    slos: dict[str, SloSettings] = Field(default_factory=dict)
    engines: dict[EngineName, EngineSettings] = Field(default_factory=_default_engines)
    aliases: dict[str, str] = Field(default_factory=dict)

    @field_validator("engines")
    @classmethod
    def _not_the_gateways(cls, value: dict[str, EngineSettings]) -> dict[str, EngineSettings]:
        if value.keys() & {"control", "gateway", "live"}:
            raise ValueError("an engine cannot be called control, gateway or live; those are the appliance's own")
        return value

    @property
    def live_port(self) -> int:
        """Where ``appliance live`` listens; 0 where there is no such port."""
        return self.live.port or (self.server.port + 1) % 65536

    @property
    def ledger_where(self) -> Path | str:
        """The SQLite file or PostgreSQL URL of the ledger. The URL may hold a password: never show it."""
        return self.ledger.url or self.home / "ledger.db"

    @property
    def models_dir(self) -> Path:
        """Where the store keeps models, one directory each."""
        return self.home / "models"

    @property
    def logs_dir(self) -> Path:
        """One log file an engine and one of the gateway, which writes to stderr as well; ``[logs]`` bounds them."""
        return self.home / "logs"

    @property
    def jobs_dir(self) -> Path:
        """Transcription jobs, one directory each."""
        return self.home / "jobs"

    @property
    def cache_dir(self) -> Path:
        """Caches that may be deleted at any time."""
        return self.home / "cache"

    @property
    def admin_key_path(self) -> Path:
        """The first admin key, mode 0600."""
        return self.home / "admin.key"

    def engine_socket(self, name: str) -> Path:
        """The Unix socket engine ``name`` listens on."""
        return self.run / f"{name}.sock"

    def state_file(self, name: str) -> Path:
        """Where the supervisor of engine ``name`` writes its state; a hosted one may have a directory of its own."""
        engine = self.engines.get(name)
        directory = engine.hosted.run_dir if engine is not None else None
        return (self.run if directory is None else Path(directory)) / f"{name}.json"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read ``APPLIANCE_HOME/appliance.toml`` (absent is fine) and ``APPLIANCE_*`` from ``environ``.

    Raises SettingsError with one sentence for an unreadable file, an unknown key, a bad value or a
    run directory too long for Unix sockets.
    """
    home = Path(environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    run = Path(environ.get("APPLIANCE_RUN") or home / "run").expanduser().absolute()
    if len(bytes(run)) > SOCKET_PATH_LIMIT - _LONGEST_SOCKET_NAME:
        raise SettingsError(
            f"the run directory {run} is {len(bytes(run))} bytes long and Unix sockets inside it would pass"
            f" {SOCKET_PATH_LIMIT}; set APPLIANCE_RUN to a path of at most"
            f" {SOCKET_PATH_LIMIT - _LONGEST_SOCKET_NAME} bytes, for example /run/appliance"
        )
    path = home / "appliance.toml"
    data = _read_toml(path)
    server = data.get("server", {})
    if not isinstance(server, dict):
        raise SettingsError(f"{path}: server is a section; write [server] and its settings below it")
    server = dict(server)
    if environ.get("APPLIANCE_HOST"):
        server["host"] = environ["APPLIANCE_HOST"]
    if environ.get("APPLIANCE_PORT"):
        server["port"] = _port(environ["APPLIANCE_PORT"])
    data["server"] = server
    _read_ledger_url(data, environ, path)
    for reserved in ("home", "run"):
        if reserved in data:
            raise SettingsError(f"{path}: {reserved!r} is set by APPLIANCE_{reserved.upper()}, not in the file")
    try:
        settings = Settings(home=home, run=run, **data)
        return settings.model_copy(update={"aliases": {**_default_aliases(settings.engines), **settings.aliases}})
    except ValidationError as e:
        raise SettingsError(f"{path}: {_first_error(e)}") from None


def _read_ledger_url(data: dict[str, Any], environ: Mapping[str, str], path: Path) -> None:
    """APPLIANCE_LEDGER_URL, or what ``ledger.url_file`` holds, as ``ledger.url``."""
    ledger = data.get("ledger", {})
    if not isinstance(ledger, dict):
        raise SettingsError(f"{path}: ledger is a section; write [ledger] and its settings below it")
    if environ.get("APPLIANCE_LEDGER_URL"):
        data["ledger"] = {"url": environ["APPLIANCE_LEDGER_URL"]}
    elif isinstance(ledger.get("url_file"), str) and "url" not in ledger:
        try:
            data["ledger"] = {"url": Path(ledger["url_file"]).expanduser().read_text(encoding="utf-8").strip()}
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{path}: ledger.url_file cannot be read: {e}") from None


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise SettingsError(f"APPLIANCE_PORT is {text!r}; give a port number between 0 and 65535")
    return int(text)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsError(f"{path} cannot be read: {e}") from None
    except tomllib.TOMLDecodeError as e:
        raise SettingsError(f"{path} is not valid TOML: {e}") from None


_MODELS: dict[str, type[BaseModel]] = {
    "server": ServerSettings,
    "site": SiteSettings,
    "speech": SpeechSettings,
    "live": LiveSettings,
    "ledger": LedgerSettings,
    "memory": MemorySettings,
    "logs": LogSettings,
    "tracing": TracingSettings,
    "slos": SloSettings,
    "engines": EngineSettings,
}


def _first_error(e: ValidationError) -> str:
    error = e.errors()[0]
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "string_pattern_mismatch" and error["loc"][0] == "engines":
        return f"{where}: an engine's name is 1 to 31 lower-case letters, digits, - and _, and starts with no sign"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg'].removeprefix('Value error, ')}"
    unknown = str(error["loc"][-1])
    section = str(error["loc"][0])
    model = _MODELS.get(section, Settings) if len(error["loc"]) > 1 else Settings
    if section == "engines" and len(error["loc"]) > 3:
        model = HostedSettings
    known = [k for k in model.model_fields if k not in ("home", "run")]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return f"{where} is not a setting; {hint}"
