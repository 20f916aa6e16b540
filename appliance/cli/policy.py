"""``appliance policy``: what decides where requests go, checked, explained and trained."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.ledger import as_json, opened, print_json, print_table

if TYPE_CHECKING:
    from appliance.policy.intent_training import Example, Held
    from appliance.policy.values import Policy

# in modules of their own, imported on use
_ELSEWHERE = {
    "explain": ("appliance.cli.policy_explain", "explain"),
    "fit": ("appliance.cli.policy_fit", "fit"),
    "replay": ("appliance.cli.policy_fit", "replay"),
    "score": ("appliance.cli.policy_score", "score"),
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, attribute = _ELSEWHERE[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_Group)
def policy() -> None:
    """Where requests go and why: policy.toml checked, a request explained, intents trained."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@as_json
def check(file: Path | None, as_json: bool) -> None:
    """Check FILE (HOME/policy.toml by default) as a reload would: keys, values, names, and its own tests.

    \b
    Exit code 0: it would be accepted. 1: it would not, and everything that is wrong is listed.
    """
    from appliance.policy.load import PolicyError, count_tests, load

    path = file or settings_or_exit().home / "policy.toml"
    text = _text(path)
    try:
        checked = load(text, str(path))
    except PolicyError as e:
        if as_json:
            print_json({"ok": False, "problems": [{"line": p.line, "text": p.text} for p in e.problems]})
            raise click.exceptions.Exit(1) from None
        raise Failure("\n".join(f"{path}, {problem}" for problem in e.problems)) from None
    tests = count_tests(text)
    if as_json:
        print_json({"ok": True, "version": checked.version, "tests": tests, "problems": []})
        return
    click.echo(f"{path} is good: version {checked.version}, {tests} of {tests} tests passed")
    for line in _summary(checked):
        click.echo(line)


def _summary(checked: Policy) -> list[str]:
    hosted = checked.hosted
    share = checked.rollout.share
    lines = [
        f"hosted: {hosted.model}, for tenants whose residency allows it" if hosted.enabled else "hosted: off",
        f"intents: {', '.join(checked.intents) or 'none with rules of their own'}",
        f"languages: {', '.join(checked.languages) or 'none with routes of their own'}",
    ]
    if checked.shadow.share:
        most = checked.shadow.month_nusd / 1e9
        lines.append(
            f"shadow runs: {checked.shadow.share:.1%} of judged local answers, up to {most:g} USD a tenant and month"
        )
    if share < 1.0:
        lines.append(f"rollout: {share:.0%} of conversations, stopped when it does worse")
    return lines


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Failure(f"{path} does not exist; without it every request goes to the local engines") from None
    except UnicodeDecodeError as e:
        raise Failure(f"{path} is not UTF-8 (byte {e.start}); save it as UTF-8") from None
    except OSError as e:
        raise Failure(f"{path} cannot be read ({e.strerror})") from None


@policy.command("train-intents")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--tenant", "tenant_id", metavar="ID", help="Whose intents they are; every tenant's without it.")
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="For the held-out figures.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Confidence below which there is no intent.")
@click.option("--dry-run", is_flag=True, help="Only say how good it would be.")
@as_json
def train_intents(
    files: Sequence[Path], tenant_id: str | None, folds: int, threshold: float | None, dry_run: bool, as_json: bool
) -> None:
    """Train the intent classifier from example utterances in FILES (TOML or JSONL).

    Prints how it does on examples it was not trained with: each example is asked about in one of the folds. Without
    --threshold, the one that gives nine right answers in ten there.
    """
    from appliance.policy.intent_training import cross_validate, train

    examples = _examples(files)
    if tenant_id is not None:
        _check_tenant(tenant_id)
    held = cross_validate(examples, folds, threshold=threshold)
    target = None
    if not dry_run:
        target = _model_path(tenant_id)
        _write(target, train(examples, held.temperature, held.threshold).to_bytes())
    if as_json:
        print_json({"file": None if target is None else str(target), "held_out": held})
        return
    _show(held)
    if target is not None:
        click.echo(f"written to {target}; `appliance reload` makes a running gateway use it")


def _examples(files: Sequence[Path]) -> list[Example]:
    from appliance.policy.examples import BadExamples, check, parse

    found: list[Example] = []
    try:
        for file in files:
            found += parse(_text(file), str(file))
        return check(found)
    except BadExamples as e:
        raise Failure(str(e)) from None


def _check_tenant(tenant_id: str) -> None:
    from appliance.ledger.stores import tenants

    with opened() as ledger:
        tenants.get(ledger.engine, tenant_id)


def _model_path(tenant_id: str | None) -> Path:
    from appliance.api.intent_models import DEFAULT, models_dir

    return models_dir(settings_or_exit().home) / f"{tenant_id or DEFAULT}.npz"


def _write(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(target)
    except OSError as e:
        raise Failure(f"{target} cannot be written ({e.strerror})") from None


def _show(held: Held) -> None:
    rows: list[Sequence[Any]] = [
        (one.intent, one.examples, f"{one.precision:.2f}", f"{one.recall:.2f}", f"{one.f1:.2f}") for one in held.intents
    ]
    print_table(["INTENT", "EXAMPLES", "PRECISION", "RECALL", "F1"], rows)
    click.echo(
        f"held out, {held.folds} folds of {held.examples} examples: macro-F1 {held.macro_f1:.3f} with"
        f" {held.abstained:.1%} abstained (a miss), {held.right:.1%} of the answers right;"
        f" {held.macro_f1_without_abstaining:.3f} if it always answered"
    )
    if held.none_kept is not None:
        click.echo(f"of examples of no intent, {held.none_kept:.1%} were given none")
    for said, meant, times in held.confused:
        click.echo(f"{times} x {meant} taken for {said}")
    click.echo(f"no intent below a confidence of {held.threshold}")
