"""What a catalogue entry may say, as frozen values: source, files, licence, languages, memory, and what is not known.

What it is: the schema of ``catalogue/*.toml`` and of an operator's own ``APPLIANCE_HOME/models/*.toml``, checked in
full when a file is read.
What it refuses to be: a list of wishes. A size, a hash or a budget that nobody could verify is absent, and
``unverified`` says so; nothing here is guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

MANIFEST = "manifest.json"

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
# A plain file name: no separator, no leading dot, so nothing can be written outside its directory.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
# The same, in directories of such names; "_" may begin one, because hub repositories have such files.
_FILE_PATH = r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}){0,7}$"
FilePath = Annotated[str, Meta(pattern=_FILE_PATH)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Language = Annotated[str, Meta(pattern=r"^[a-z]{3}_[A-Z][a-z]{3}$")]
# SPDX identifiers, and LicenseRef-… for licences that are on no SPDX list
Spdx = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
Text = Annotated[str, Meta(min_length=1)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s]+$")]
Count = Annotated[int, Meta(gt=0)]
Task = Literal["chat", "embed", "transcribe", "translate"]
EngineKind = Literal["indicconformer", "indictrans2", "torch-cuda", "vllm", "whisper"]


def is_file_path(path: str) -> bool:
    """Whether a path from outside may be written below a model's directory."""
    return re.fullmatch(_FILE_PATH, path) is not None


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, and an unknown key is an error."""


class Wanted(Struct, frozen=True):
    """Patterns that say which files of a source belong to a model.

    ``a|b`` means a, or where a source has no such file, b: hubs move from one format to another.
    """

    include: tuple[str, ...]
    optional: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Patterns of ``include`` that match none of ``paths``."""
        there = list(paths)
        return [pattern for pattern in self.include if not self._matches(pattern, there)]

    def take(self, paths: Iterable[str]) -> list[str]:
        """Those of ``paths`` that belong to the model, sorted; hidden files never do."""
        there = list(paths)
        return sorted({path for pattern in (*self.include, *self.optional) for path in self._matches(pattern, there)})

    def _matches(self, pattern: str, paths: list[str]) -> list[str]:
        for alternative in pattern.split("|"):
            found = [path for path in paths if fnmatchcase(path, alternative) and self._allowed(path)]
            if found:
                return found
        return []

    def _allowed(self, path: str) -> bool:
        hidden = path == MANIFEST or any(part.startswith(".") for part in path.split("/"))
        return not hidden and not any(fnmatchcase(path, pattern) for pattern in self.exclude)


class Wheel(_Strict, frozen=True, kw_only=True):
    """One archive of a package registry, pinned. ``bytes`` is its size as downloaded."""

    package: Name
    version: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+!]*$")]
    file: FileName
    bytes: Count
    sha256: Sha256


class Part(_Strict, frozen=True, kw_only=True):
    """A member of a wheel, named by the wheel's package."""

    wheel: Name
    member: Text


class File(_Strict, frozen=True, kw_only=True):
    """One file of the model. Out of wheels: its ``parts`` one after another, with the size and SHA-256 of the whole.

    From a hub or a directory: the path in it, and size and SHA-256 where they are known beforehand.
    """

    to: FilePath
    bytes: Count | None = None
    sha256: Sha256 | None = None
    parts: tuple[Part, ...] = ()


class Hub(_Strict, frozen=True, kw_only=True):
    """A repository of a model hub. ``include`` are the files it has to have, ``optional`` those taken if there.

    Both are patterns (``*`` crosses ``/``); each of ``include`` has to match something, ``exclude`` comes last.
    ``revision`` is a branch, a tag or a commit; the commit found at the first pull is pinned in the manifest.
    ``gated``: the hub asks for an account that was granted access.
    """

    repo: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]
    revision: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = "main"
    include: Annotated[tuple[Text, ...], Meta(min_length=1)]
    optional: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()
    gated: bool = False

    @property
    def wanted(self) -> Wanted:
        """Which of its files."""
        return Wanted(self.include, self.optional, self.exclude)


class Local(_Strict, frozen=True, kw_only=True):
    """A directory of this machine that a pull copies from; the patterns are those of ``Hub``.

    ``shipped:NAME`` is a directory that this package carries.
    """

    path: Annotated[str, Meta(pattern=r"^(/|shipped:[a-z0-9][a-z0-9/-]*$)")]
    include: Annotated[tuple[Text, ...], Meta(min_length=1)] = ("*",)
    optional: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()

    @property
    def wanted(self) -> Wanted:
        """Which of its files."""
        return Wanted(self.include, self.optional, self.exclude)

    @property
    def directory(self) -> Path:
        """Where it is."""
        shipped = self.path.removeprefix("shipped:")
        return Path(self.path) if shipped == self.path else Path(__file__).resolve().parent / shipped


class Convert(_Strict, frozen=True, kw_only=True):
    """What is done to ``file`` (or to everything, where none is named) before an engine can read it.

    ``kind`` names a converter of the store, ``produces`` the files that have to come of it.
    ``generation`` are sampling defaults for requests that name none; formats such as GGUF do not carry them.
    """

    kind: Name
    file: FileName | None = None
    produces: Annotated[tuple[FileName, ...], Meta(min_length=1)]
    generation: dict[Literal["temperature", "top_p", "top_k", "repetition_penalty"], float] = {}


class Memory(_Strict, frozen=True, kw_only=True):
    """What the memory plan needs, in bytes. Absent is unknown, never zero.

    ``weights_bytes``: absent means the sum of the files. ``kv_bytes_per_token``: of the whole model, keys and values,
    at 16 bits. Layers that look back over a window only hold ``kv_windowed_bytes_per_token`` of that for at most
    ``kv_window_tokens`` tokens. ``workspace_bytes``: activations and graphs, measured. ``host_bytes``: RAM beside
    the GPU.
    """

    weights_bytes: Count | None = None
    kv_bytes_per_token: Count | None = None
    kv_windowed_bytes_per_token: Count | None = None
    kv_window_tokens: Count | None = None
    workspace_bytes: Count | None = None
    host_bytes: Count | None = None

    def __post_init__(self) -> None:
        """The windowed part is a part, and has a window."""
        if (self.kv_windowed_bytes_per_token is None) != (self.kv_window_tokens is None):
            raise ValueError("kv_windowed_bytes_per_token and kv_window_tokens belong together; give both")
        if (self.kv_windowed_bytes_per_token or 0) > (self.kv_bytes_per_token or 0):
            raise ValueError("kv_windowed_bytes_per_token is a part of kv_bytes_per_token and cannot be larger")


class Model(_Strict, frozen=True, kw_only=True):
    """A catalogue entry, with exactly one of ``wheels``, ``hub`` and ``local`` as its source.

    ``licence`` is an SPDX identifier, ``must_accept`` whether somebody has to agree to it first, ``languages`` are
    FLORES tags, ``preferred_for`` those of them that go to this model first where others speak them too (``facts`` say
    why), ``context_tokens`` what the model was trained for (absent where it has no meaning or is unknown),
    ``arguments`` what its engine is started with, ``installed_bytes`` its size on disk, ``embedded`` whether ``make``
    fetches it. ``unverified`` says what nobody could check, ``facts`` where the rest was read.
    """

    name: Name
    title: Text
    task: Task
    engine: EngineKind
    licence: Spdx
    licence_url: Url | None = None
    must_accept: bool = False
    languages: Annotated[tuple[Language, ...], Meta(min_length=1)]
    preferred_for: tuple[Language, ...] = ()
    context_tokens: Count | None = None
    arguments: tuple[Text, ...] = ()
    parameters: Count | None = None
    installed_bytes: Count | None = None
    memory: Memory = Memory()
    wheels: tuple[Wheel, ...] = ()
    hub: Hub | None = None
    local: Local | None = None
    files: tuple[File, ...] = ()
    convert: Convert | None = None
    embedded: bool = False
    replaces_shipped: bool = False
    unverified: tuple[Text, ...] = ()
    facts: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        """Checks across fields; msgspec turns the ValueError into its own error with the place."""
        names = [file.to for file in self.files]
        packages = [wheel.package for wheel in self.wheels]
        for what, values in (("wheels", packages), ("files", names)):
            double = {value for value in values if values.count(value) > 1}
            if double:
                raise ValueError(f"{what} names {sorted(double)[0]!r} twice")
        if bool(self.wheels) + (self.hub is not None) + (self.local is not None) != 1:
            raise ValueError("a model has exactly one source; give [[wheels]], [hub] or [local]")
        for file in self.files:
            self._check_file(file, packages)
        if self.wheels and not self.files:
            raise ValueError("a model out of wheels names its files; add [[files]]")
        if self.wheels and self.installed_bytes is None:
            raise ValueError("a model out of wheels says its size on disk; add installed_bytes")
        if self.wheels and self.convert and self.convert.file not in names:
            raise ValueError(f"convert.file {self.convert.file!r} is not among files")
        if MANIFEST in names:
            raise ValueError(f"{MANIFEST} is the store's own file")
        if odd := sorted(set(self.preferred_for) - set(self.languages)):
            raise ValueError(f"preferred_for names {odd[0]}, which is not among languages")
        if self.must_accept and self.licence_url is None:
            raise ValueError("a licence that must be accepted has to be readable; add licence_url")

    def _check_file(self, file: File, packages: list[str]) -> None:
        if not self.wheels:
            if file.parts:
                raise ValueError(f"{file.to} has parts, but this model has no wheels to take them from")
            return
        if not file.parts or file.bytes is None or file.sha256 is None or "/" in file.to:
            raise ValueError(f"{file.to} comes out of wheels and needs a plain name, bytes, sha256 and parts")
        for part in file.parts:
            if part.wheel not in packages:
                raise ValueError(f"{file.to} takes a part from {part.wheel!r}, which is no wheel of this model")

    @property
    def recipe(self) -> str:
        """SHA-256 of everything that decides the installed bytes; a changed recipe is another model.

        Hashes of files that come from a hub are left out: they were pinned when the model was installed, and a
        catalogue that learns of them later has to agree with that pin (``manifest.agrees``), not replace it.
        """
        source: list[Any] = [self.wheels, self.files, self.convert]
        if self.hub is not None:
            source = ["hub", self.hub.repo, self.hub.revision, self.hub.wanted, self.convert]
        elif self.local is not None:
            source = ["local", self.local.path, self.local.wanted, self.convert]
        return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(source), order="deterministic")).hexdigest()

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of the weights: as said, else the sum of the files, None when neither is known."""
        if self.memory.weights_bytes is not None:
            return self.memory.weights_bytes
        sizes = [file.bytes for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        if self.hub is not None:
            return f"hub {self.hub.repo} at {self.hub.revision}"
        if self.local is not None:
            return "this repository" if self.local.path.startswith("shipped:") else f"directory {self.local.path}"
        return "package registry: " + ", ".join(f"{wheel.package} {wheel.version}" for wheel in self.wheels)
