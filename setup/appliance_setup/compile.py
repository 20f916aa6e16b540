"""``make lock``: compiles every lock from pyproject.toml, pinned to the last digit.

What it is: uv resolves, this file says what for. ``cpu-pypi.txt`` is resolved against the default
index; ``cpu.txt`` is the same list with PyPI's torch and its NVIDIA libraries replaced by the one
entry of ``locks/torch-cpu.in``, so both sets carry the same versions and no machine needs the +cpu
wheel to compile them. ``dev.txt`` follows cpu.txt, ``gpu.txt`` keeps to it where it can.
What it refuses to be: a source of machine names: no annotation, index, path or date is emitted.
What it costs: about 10 s with a warm cache. Versions move only with ``--upgrade``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from appliance_setup import process, registry
from appliance_setup.install import Say
from appliance_setup.locks import blocks, pins

_HEADER = "# Compiled by `make lock`; do not edit.\n"
_TARGET = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
# PyPI's builds of these three are for CUDA and break beside CPU torch; vLLM runs without them.
_BROKEN_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
# xgrammar asks for triton, and vLLM switches it off where there is no GPU: 1 GB for nothing.
_USELESS_ON_CPU = ("triton",)
_CUDA_ONLY = ("nvidia-", "cuda-")


def compile_locks(root: Path, *, upgrade: bool, environ: Mapping[str, str], say: Say) -> None:
    """Write all of ``locks/*.txt``, or none of them when one cannot be resolved."""
    with tempfile.TemporaryDirectory(prefix="ap-") as scratch:
        compiler = _Compiler(root, Path(scratch), upgrade, environ)
        compiler.provide_uv()
        texts = compiler.all()
    for name, text in texts.items():
        path = root / "locks" / name
        changed = not path.exists() or path.read_text(encoding="utf-8") != text
        if changed:
            path.write_text(text, encoding="utf-8")
        say(f"locks/{name}: {len(pins(text))} packages{'' if changed else ', unchanged'}")


class _Compiler:
    def __init__(self, root: Path, scratch: Path, upgrade: bool, environ: Mapping[str, str]) -> None:
        self.root, self.scratch, self.upgrade = root, scratch, upgrade
        self.environ: Mapping[str, str] = environ
        self.flags: list[str] = []
        self.python = scratch / "venv" / "bin" / "python"

    def provide_uv(self) -> None:
        """uv in an environment of its own, and pip's default index for it.

        Extra indexes and find-links stay out: they may hold part of a release's files, and the
        lock would then lack the hashes of the rest.
        """
        self.call([sys.executable, "-m", "venv", str(self.scratch / "venv")])
        arguments = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        self.call([str(self.python), "-m", "pip", *arguments, "-r", str(self.root / "locks" / "bootstrap.txt")])
        config = registry.pip_config(self.python, self.environ)
        for partial in ("extra-index-url", "find-links"):
            config.pop(partial, None)
        outer = {k: v for k, v in self.environ.items() if not k.startswith("UV_FIND") and k != "UV_INDEX"}
        self.environ = {**registry.uv_environment(config, outer), "UV_NO_CONFIG": "1"}
        self.flags = registry.uv_flags(config)

    def all(self) -> dict[str, str]:
        """Every lock's text by file name."""
        torch = (self.root / "locks" / "torch-cpu.in").read_text(encoding="utf-8")
        torch_version = pins(torch)["torch"].split("+")[0]
        pypi = self.resolve(
            "cpu-pypi.txt",
            ["pyproject.toml", "--extra", "cpu"],
            overrides=[f"torch=={torch_version}"],
            leave_out=_BROKEN_ON_CPU + _USELESS_ON_CPU,
        )
        gpu = self.resolve(
            "gpu.txt",
            ["pyproject.toml", "--extra", "gpu"],
            # faster-whisper asks for onnxruntime, whose files would overwrite onnxruntime-gpu's.
            overrides=["onnxruntime; python_version < '3'"],
            seed=pypi,
        )
        dev = self.resolve("dev.txt", ["pyproject.toml", "--extra", "dev"], constraints=pypi)
        bootstrap = self.resolve("bootstrap.txt", ["locks/bootstrap.in"])
        deploy = self.resolve("deploy.txt", ["locks/deploy.in"])
        return {
            "cpu-pypi.txt": pypi,
            "cpu.txt": with_cpu_torch(pypi, torch),
            "gpu.txt": gpu,
            "dev.txt": dev,
            "bootstrap.txt": bootstrap,
            "deploy.txt": deploy,
        }

    def resolve(
        self,
        name: str,
        sources: list[str],
        *,
        overrides: list[str] | None = None,
        leave_out: tuple[str, ...] = (),
        constraints: str = "",
        seed: str = "",
    ) -> str:
        """One lock. uv prefers the versions of an output file that is there: the present lock, else ``seed``."""
        present = self.root / "locks" / name
        output = self.scratch / name
        output.write_text(present.read_text(encoding="utf-8") if present.exists() else seed, encoding="utf-8")
        command = [str(self.python.parent / "uv"), "pip", "compile", *sources, *_TARGET, *self.flags]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", str(output)]
        command += ["--upgrade"] if self.upgrade else []
        for package in leave_out:
            command += ["--no-emit-package", package]
        if overrides:
            command += ["--overrides", str(self.written("overrides.txt", "\n".join(overrides)))]
        if constraints:
            lines = "\n".join(f"{package}=={version}" for package, version in pins(constraints).items())
            command += ["--constraints", str(self.written("constraints.txt", lines))]
        self.call(command)
        return _HEADER + "".join(blocks(output.read_text(encoding="utf-8")).values())

    def written(self, name: str, text: str) -> Path:
        path = self.scratch / name
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def call(self, command: list[str]) -> None:
        process.run(command, cwd=self.root, environ=self.environ)


def with_cpu_torch(pypi: str, torch: str) -> str:
    """``cpu-pypi.txt`` -> ``cpu.txt``: another torch, and nothing of CUDA."""
    entries = {name: entry for name, entry in blocks(pypi).items() if not name.startswith(_CUDA_ONLY)}
    entries["torch"] = blocks(torch)["torch"].rstrip("\n") + "\n"
    return _HEADER + "".join(entries.values())
