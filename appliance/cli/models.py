"""``appliance models list | show | pull | verify | remove | licences | accept``, whether engines run or not."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.ledger import as_json, print_json, print_table
from appliance.cli.models_view import Shelf, cell, fields, licence, row, say_pulled, size, strangers


@click.group()
def models() -> None:
    """The models of this machine: which there are, which are here, and under which licence.

    An entry of your own is a TOML file in APPLIANCE_HOME/models. HF_ENDPOINT names another hub or a mirror, HF_TOKEN
    (or a file named by HF_TOKEN_PATH) an account that may read gated models.
    """


@contextlib.contextmanager
def _opened(progress: bool = False, fetching: bool = False) -> Iterator[Shelf]:
    """The store of these settings; what it refuses ends the command with its sentence."""
    from appliance_models.errors import StoreError
    from appliance_models.hub import Hub
    from appliance_models.progress import Bars, Lines, Reporter, Silent
    from appliance_models.store import Store

    settings = settings_or_exit()
    try:
        with contextlib.ExitStack() as stack:
            reporter: Reporter = Silent()
            if progress:
                reporter = stack.enter_context(Bars()) if sys.stderr.isatty() else Lines(sys.stderr)
            hub = Hub.of(os.environ) if fetching else Hub()
            yield Shelf(settings, Store(settings.models_dir, reporter, hub=hub))
    except StoreError as e:
        raise Failure(str(e)) from None
    except OSError as e:
        raise Failure(f"{e.filename or settings.models_dir}: {e.strerror or e}") from None
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on from here", 130) from None


@models.command("list")
@click.option("--installed", is_flag=True, help="Only those that are here.")
@click.option("--task", type=click.Choice(["chat", "embed", "transcribe", "translate"]), help="Only those for this.")
@as_json
def list_models(installed: bool, task: str | None, as_json: bool) -> None:
    """Every model of the catalogue and of your own entries, and whether it is here."""
    with _opened() as opened:
        found = opened.load_all()
        rows = [row(opened, model) for model in found.values() if task in (None, model.task)]
        rows += [] if task else strangers(opened, found)
    if installed:
        rows = [one for one in rows if one["state"] not in ("-", "begun")]
    if as_json:
        print_json(rows)
        return
    heads = ["NAME", "TASK", "ENGINE", "SIZE", "LICENCE", "LANGUAGES", "STATE"]
    print_table(heads, [[cell(one, head.lower()) for head in heads] for one in rows])


@models.command()
@click.argument("name")
@as_json
def show(name: str, as_json: bool) -> None:
    """Everything the catalogue says about NAME, what nobody could verify, and what is here of it."""
    import msgspec

    with _opened() as opened:
        model = opened.load(name)
        found = row(opened, model)
        if as_json:
            print_json({**msgspec.to_builtins(model), **found})
            return
        for head, value in fields(opened, model, found):
            click.echo(f"{head.ljust(14)}  {value}" if head else f"{'':14}  {value}")


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Import from this directory: the model's files, or a copy of what another appliance installed.",
)
@click.option("--update", is_flag=True, help="Forget what was pinned at the first pull and take what there is now.")
@as_json
def pull(names: Sequence[str], source: Path | None, update: bool, as_json: bool) -> None:
    """Fetch, check and install models; what was begun is gone on with."""
    results = []
    with _opened() as opened:
        wanted = [opened.load(name) for name in names]  # a mistake in the last name comes before the first byte
    for model in wanted:
        with _opened(progress=True, fetching=True) as opened:
            there = opened.store.sound(model) and not update
            before = opened.manifest(model.name)
            directory = opened.store.ensure(model, source, update)
        results.append({**row(opened, model), "directory": str(directory), "was_there": there})
        if not as_json:  # below the bars, which took standard output while they were up
            say_pulled(opened, model, directory, there, before)
    if as_json:
        print_json(results)


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
def verify(names: Sequence[str], as_json: bool) -> None:
    """Hash every byte of NAME (default: of all that are here). What is damaged is not served until it is pulled."""
    results: dict[str, list[str]] = {}
    with _opened(progress=True) as opened:
        if not names:
            names = [name for name, _ in opened.load_all().items() if opened.manifest(name)]
        for name in names:
            results[name] = opened.store.verify(opened.load(name))
    if as_json:
        print_json(results)
    for name, wrong in results.items():
        if not as_json:
            click.echo(f"{name}: {'; '.join(wrong) if wrong else 'every byte is as installed'}")
    damaged = [name for name, wrong in results.items() if wrong]
    if damaged:
        raise Failure(f"run `appliance models pull {' '.join(damaged)}`, which fetches only what is wrong")


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def remove(names: Sequence[str], yes: bool, as_json: bool) -> None:
    """Delete models, and what is left of unfinished pulls. One that a running engine uses is refused."""
    results = {}
    if not yes:
        click.confirm(f"Delete {', '.join(names)}?", abort=True, err=True)
    with _opened() as opened:
        for name in names:
            results[name] = opened.store.remove(name, opened.in_use())
            if not as_json:
                click.echo(f"removed {name}: {size(results[name])} freed")
    if as_json:
        print_json(results)


@models.command()
@as_json
def licences(as_json: bool) -> None:
    """The licence of every model, and who accepted those that have to be."""
    rows = []
    with _opened() as opened:
        for model in opened.load_all().values():
            rows.append(licence(opened, model))
    if as_json:
        print_json(rows)
        return
    heads = ["MODEL", "LICENCE", "ACCEPTED", "TEXT"]
    print_table(heads, [(r["model"], r["licence"], r["accepted"], r["url"] or "LICENSE in its files") for r in rows])


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--by", help="Who accepts; default: the user of this shell.")
@click.option("--yes", is_flag=True, help="Do not ask: the licence was read.")
@as_json
def accept(names: Sequence[str], by: str | None, yes: bool, as_json: bool) -> None:
    """Record that the licences of models were read and agreed to. It is kept who did, and when."""
    from appliance_models import licences

    results = []
    with _opened() as opened:
        for model in [opened.load(name) for name in names]:
            if not model.must_accept:
                click.echo(f"{model.name} is under {model.licence}, which nobody has to accept", err=True)
                continue
            click.echo(f"{model.name} is under {model.licence}: {model.licence_url}", err=True)
            if not yes:
                click.confirm("Was it read, and is it agreed to?", abort=True, err=True)
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            results.append(licences.accept(opened.settings.models_dir, model, by or _user(), at))
            if not as_json:
                click.echo(f"accepted for {model.name} by {results[-1].who} at {at}")
    if as_json:
        print_json(results)


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
