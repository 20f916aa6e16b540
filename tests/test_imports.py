"""The one way imports point, what the gateway never loads, and that nothing here shadows a library."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "appliance": ROOT / "appliance",
    "appliance_models": ROOT / "models" / "appliance_models",
    "appliance_bench": ROOT / "benchmarks" / "appliance_bench",
    "appliance_kernels": ROOT / "kernels" / "appliance_kernels",
    "appliance_setup": ROOT / "setup" / "appliance_setup",
}
VALUES = {
    "types", "errors", "settings", "settings_hosted", "languages", "language_id", "networks", "permit_keys",
    "transliterate", "translation", "codemix", "within",
}  # fmt: skip
ENGINE_ROOMS = {"hosts", "supervisor"}
# Every room of appliance/ and the rooms it may import. "app" composes, "__main__" and cli are thin commands.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(VALUES, VALUES),
    "jsonlines": set(),
    "notify": set(),
    "policy": VALUES,
    "metrics": VALUES,
    "logs": VALUES,
    "tracing": VALUES,
    "traced": VALUES | {"pipeline", "policy", "engines", "ledger", "metrics", "tracing"},
    "engines": VALUES,
    "ledger": VALUES,
    "pipeline": VALUES | {"policy", "engines", "ledger", "metrics"},
    "api": VALUES | {"pipeline", "policy", "engines", "ledger", "metrics", "jsonlines"},
    "app": VALUES
    | {"api", "pipeline", "policy", "engines", "ledger", "metrics", "logs", "tracing", "traced", "notify"},
    # policy is pure; the hosted process checks permits by the very functions that bound them
    "hosts": VALUES | {"logs", "policy", "notify"},
    "bundle": VALUES,
    "doctor": VALUES | {"supervisor", "ledger", "logs"},
    "supervisor": VALUES | {"hosts", "jsonlines", "logs", "notify"},
    "cli": VALUES
    | {"app", "api", "pipeline", "policy", "engines", "ledger", "metrics", "notify", "doctor", "bundle"}
    | ENGINE_ROOMS,
    "__main__": VALUES | {"cli"},
    "__init__": VALUES,
}
MODELS_ARE_IMPORTED_BY = {"cli", "supervisor", "hosts", "doctor", "bundle"}
NOT_IN_THE_GATEWAY = (
    "torch", "transformers", "vllm", "ctranslate2", "onnxruntime", "google.genai", "faster_whisper", "av",
    "opentelemetry", "requests",
)  # fmt: skip


def imports_of(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Every module a file names in an import, absolute, wherever in the file it stands."""
    here = module_of(path, package).split(".")
    base = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = base[: len(base) - node.level + 1] if node.level else []
            stem = ".".join([*prefix, *([node.module] if node.module else [])])
            # `from appliance import ledger` names a room in its last part only.
            yield from ((node.lineno, f"{stem}.{alias.name}" if stem == package else stem) for alias in node.names)


def module_of(path: Path, package: str) -> str:
    parts = [package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGES["appliance"]).with_suffix("").parts[0]


def files_of(package: str) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found, f"{package} has no files"
    return found


def complaint(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} {what}"


def test_rooms_import_one_way() -> None:
    wrong = []
    for path in files_of("appliance"):
        room = room_of(path)
        allowed = MAY_IMPORT.get(room)
        assert allowed is not None, f"appliance/{room} is a new room: say in MAY_IMPORT what it may import"
        for line, name in imports_of(path, "appliance"):
            parts = name.split(".")
            if parts[0] != "appliance" or len(parts) == 1 or parts[1] == room or parts[1] == "__version__":
                continue
            if parts[1] not in allowed:
                wrong.append(complaint(path, line, f"imports {name}; {room} may import {', '.join(sorted(allowed))}"))
    assert not wrong, "\n".join(wrong)


def test_models_are_imported_by_engine_rooms_and_cli_only() -> None:
    wrong = [
        complaint(path, line, f"imports {name}; only {', '.join(sorted(MODELS_ARE_IMPORTED_BY))} may")
        for path in files_of("appliance")
        for line, name in imports_of(path, "appliance")
        if name.split(".")[0] == "appliance_models" and room_of(path) not in MODELS_ARE_IMPORTED_BY
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("appliance", {"appliance_bench", "appliance_setup"}),
        ("appliance_models", {"appliance", "appliance_bench", "appliance_setup"}),
        ("appliance_bench", {"appliance", "appliance_models", "appliance_setup"}),
        ("appliance_setup", {"appliance", "appliance_models", "appliance_bench", "appliance_kernels"}),
        ("appliance_kernels", {"appliance", "appliance_models", "appliance_bench", "appliance_setup"}),
    ],
)
def test_packages_keep_apart(package: str, others: set[str]) -> None:
    wrong = [
        complaint(path, line, f"imports {name}")
        for path in files_of(package)
        for line, name in imports_of(path, package)
        if name.split(".")[0] in others
    ]
    assert not wrong, "\n".join(wrong)


def test_setup_needs_nothing_but_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | {"appliance_setup"}
    wrong = [
        complaint(path, line, f"imports {name}, which is not there before the set-up has run")
        for path in files_of("appliance_setup")
        for line, name in imports_of(path, "appliance_setup")
        if name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def python(code: str) -> str:
    """What ``code`` prints in a fresh interpreter whose working directory is the repository."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gateway_loads_no_engine() -> None:
    loaded = json.loads(python("import appliance.app, json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert "appliance.app" in loaded
    assert [name for name in NOT_IN_THE_GATEWAY if name in loaded] == []


def test_no_directory_of_the_repository_shadows_a_library_of_transformers() -> None:
    # A top-level directory named like a library (kernels, datasets, …) would be imported instead of it.
    answer = python("import transformers; from transformers import AutoModelForCausalLM; print(transformers.__file__)")
    assert not answer.startswith(str(ROOT / "transformers"))
    assert "site-packages" in answer


def test_the_walk_sees_relative_and_nested_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "sample", tmp_path)
    path = tmp_path / "room" / "file.py"
    path.parent.mkdir()
    path.write_text("from sample import other\nfrom ..third import x\ndef f():\n    import sample.fourth.deep\n")
    assert list(imports_of(path, "sample")) == [(1, "sample.other"), (2, "sample.third"), (4, "sample.fourth.deep")]
