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

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from appliance.types import Task

# AF_UNIX addresses end at 108 bytes on Linux; "NAME.sock" and vllm's own 36-character IPC names
# have to fit behind the directory, so the directory itself is held to 60 bytes fewer.
SOCKET_PATH_LIMIT = 100
_LONGEST_SOCKET_NAME = 40


class SettingsError(Exception):
    """The configuration cannot be used; the text is one sentence that says what to change."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Strict):
    """Where the gateway listens and what it accepts. Sizes in bytes, times in seconds.

    ``engine_silence_s`` bounds the gap between two reads from an engine, ``request_deadline_s`` the whole.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    max_audio_bytes: int = Field(default=25 * 1024 * 1024, ge=1024)
    max_in_flight: int = Field(default=1024, ge=1)
    request_deadline_s: float = Field(default=600.0, gt=0)
    engine_silence_s: float = Field(default=120.0, gt=0)
    drain_s: float = Field(default=20.0, ge=0)


class SiteSettings(_Strict):
    """``networks``: CIDR blocks of this site, where an attached engine still counts as local."""

    networks: tuple[str, ...] = ()

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for block in value:
            try:
                ipaddress.ip_network(block)
            except ValueError as e:
                raise ValueError(f"{block!r} is not a network such as 10.0.0.0/8: {e}") from None
        return value


class EngineSettings(_Strict):
    """One engine. ``model`` names a catalogue entry; ``openai`` engines name an address instead.

    ``kv_cache_bytes``: vllm's KV cache, explicit so that two engines never mis-size each other.
    ``threads``: CPU threads of the engine, 0 = its own default.
    """

    kind: Literal["vllm", "whisper", "openai", "fake"]
    task: Task = "chat"
    model: str | None = None
    url: str | None = None
    socket: str | None = None
    api_key_file: str | None = None
    models: tuple[str, ...] = ()
    kv_cache_bytes: int = Field(default=512 * 1024 * 1024, ge=1024 * 1024)
    max_context_tokens: int = Field(default=0, ge=0)
    max_concurrent: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)
    ready_within_s: float = Field(default=600.0, gt=0)
    extra_args: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _addressed(self) -> EngineSettings:
        if self.kind == "openai" and (self.url is None) == (self.socket is None):
            raise ValueError('an engine of kind "openai" needs exactly one of url and socket')
        if self.kind in ("vllm", "whisper") and self.model is None:
            raise ValueError(f'an engine of kind "{self.kind}" needs model = "<catalogue name>"')
        return self


def _default_engines() -> dict[str, EngineSettings]:
    return {
        "chat": EngineSettings(kind="vllm", task="chat", model="smollm2-135m-instruct"),
        "transcribe": EngineSettings(kind="whisper", task="transcribe", model="whisper-base"),
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
    return {alias: model for alias, model in aliases.items() if model is not None}


# Part of socket and file names in the run directory; "control" is the gateway's own.
EngineName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]


class Settings(_Strict):
    """Everything an operator can set. ``home`` and ``run`` are absolute directories."""

    home: Path
    run: Path
    server: ServerSettings = ServerSettings()
    site: SiteSettings = SiteSettings()
    engines: dict[EngineName, EngineSettings] = Field(default_factory=_default_engines)
    aliases: dict[str, str] = Field(default_factory=dict)

    @field_validator("engines")
    @classmethod
    def _not_the_gateways(cls, value: dict[str, EngineSettings]) -> dict[str, EngineSettings]:
        if "control" in value or "gateway" in value:
            raise ValueError("an engine cannot be called control or gateway; those are the appliance's own")
        return value

    @property
    def ledger_path(self) -> Path:
        """The SQLite ledger."""
        return self.home / "ledger.db"

    @property
    def models_dir(self) -> Path:
        """Where the store keeps models, one directory each."""
        return self.home / "models"

    @property
    def logs_dir(self) -> Path:
        """One log file an engine; the gateway writes to stderr."""
        return self.home / "logs"

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
    for reserved in ("home", "run"):
        if reserved in data:
            raise SettingsError(f"{path}: {reserved!r} is set by APPLIANCE_{reserved.upper()}, not in the file")
    try:
        settings = Settings(home=home, run=run, **data)
        return settings.model_copy(update={"aliases": {**_default_aliases(settings.engines), **settings.aliases}})
    except ValidationError as e:
        raise SettingsError(f"{path}: {_first_error(e)}") from None


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
    known = [k for k in model.model_fields if k not in ("home", "run")]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return f"{where} is not a setting; {hint}"
