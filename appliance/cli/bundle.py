"""``appliance bundle key | create | verify | unpack``: what a box without internet is installed from, in one file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import click

import appliance
from appliance.cli.common import Failure, settings_or_exit

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.group()
def bundle() -> None:
    """One signed file that installs the appliance without internet."""


@bundle.command()
@click.argument("file", type=_FILE)
def key(file: Path) -> None:
    """Make a key pair: FILE signs bundles and stays where they are made, FILE.pub goes to whoever installs them."""
    from appliance.bundle.signing import make_key

    with _sentences():
        public = make_key(file)
    click.echo(f"{file} signs (keep it), {public} checks (give it to the boxes by another way than the bundle)")


@bundle.command()
@click.option("--models", default="", help="Comma-separated names; all have to be installed here.")
@click.option("--target", type=click.Choice(["cpu", "cpu-pypi", "gpu"]), required=True, help="Whose wheels.")
@click.option("--archive", type=_FILE, required=True, help="The release (`make dist`).")
@click.option("--source", type=_DIRECTORY, default=Path(), help="Where its locks/ lies; default: here.")
@click.option("--wheels", type=_DIRECTORY, help="Keep wheels here, and go on with what is there; default: OUT.wheels.")
@click.option("--key", "key_file", type=_FILE, required=True, help="The private key (`appliance bundle key`).")
@click.option("-o", "--out", type=_FILE, required=True, help="The bundle, such as bundle.tar.zst.")
def create(
    models: str,
    target: Literal["cpu", "cpu-pypi", "gpu"],
    archive: Path,
    source: Path,
    wheels: Path | None,
    key_file: Path,
    out: Path,
) -> None:
    """Fetch what the locks name, take the models, and write one signed file. Interrupted, it goes on."""
    import tempfile

    from appliance.bundle import gather
    from appliance.bundle.signing import sign
    from appliance.bundle.write import write
    from appliance_models.store import Store

    settings = settings_or_exit()
    names = [name.strip() for name in models.split(",") if name.strip()]
    directory = wheels or out.with_name(out.name + ".wheels")
    with _sentences(), tempfile.TemporaryDirectory(prefix="ap-") as work:
        if not archive.is_file():
            raise Failure(f"{archive} is not there; `make dist` makes it")
        sign(key_file, b"")  # a key that does not work is better known before an hour of downloads
        click.echo(f"wheels of locks/{target}.txt into {directory}", err=True)
        gather.wheels(source / "locks", target, directory, os.environ)
        click.echo("hashing", err=True)
        store = Store(settings.models_dir)
        manifest, sources = gather.parts(archive, directory, store, names, Path(work), appliance.__version__, target)
        with _bar("writing", manifest.bytes) as advance:
            digest = write(manifest, sources, lambda data: sign(key_file, data), out, advance)
    click.echo(f"{out}: {len(manifest.files)} files, {out.stat().st_size / 1e6:.1f} MB, digest {digest}")


@bundle.command()
@click.argument("file", type=_FILE)
@click.option("--trust", type=_FILE, required=True, help="The public key of whoever makes your bundles.")
def verify(file: Path, trust: Path) -> None:
    """Check signature, names, sizes and every byte of FILE. Writes nothing."""
    from appliance.bundle.read import verify as look

    with _sentences(), _bar("checking", None) as advance:
        manifest, digest = look(file, trust, advance)
    models = ", ".join(manifest.models) or "no models"
    click.echo(f"{file} is right: appliance {manifest.appliance} for {manifest.target}, {models}")
    click.echo(f"{len(manifest.files)} files, {manifest.bytes / 1e6:.1f} MB, digest {digest}")


@bundle.command()
@click.argument("file", type=_FILE)
@click.argument("directory", type=_DIRECTORY)
@click.option("--trust", type=_FILE, required=True, help="The public key of whoever makes your bundles.")
def unpack(file: Path, directory: Path, trust: Path) -> None:
    """`verify`, then unpack FILE into DIRECTORY, which is what site.yml takes as appliance_bundle."""
    from appliance.bundle.read import unpack as take

    with _sentences(), _bar("checking and unpacking", None) as advance:
        manifest, _ = take(file, trust, directory, advance)
    where = directory.absolute()
    click.echo(f"{where}: {len(manifest.files)} files; ansible-playbook site.yml -e appliance_bundle={where}")


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    from appliance.bundle import BundleError
    from appliance_models.errors import StoreError

    try:
        yield
    except (BundleError, StoreError) as e:
        raise Failure(str(e)) from None
    except OSError as e:
        raise Failure(
            f"{e.filename or 'a file'}: {e.strerror or e}; mend that and run the same command again"
        ) from None
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on from here", 130) from None


@contextlib.contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns: Sequence[TextColumn | DownloadColumn | TransferSpeedColumn]
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
