"""The appliance itself: gateway, engines, plan against reality, models, ledger.

What it refuses to be: a second supervisor. It asks each engine for one real answer, over its socket, as the supervisor
did when it started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from appliance.doctor import Check, green, red, yellow
from appliance.errors import ApplianceError
from appliance.settings import Settings
from appliance.supervisor import files, processes
from appliance.supervisor.probe import Answer, probe, shown_by

_ANSWERS_WITHIN_S = 60.0
_LIVING = ("ready", "swapping")
_FROM_THE_STORE = ("vllm", "whisper", "conformer", "translate")


def gateway(status: Mapping[str, Any]) -> Check:
    """Whether it answers on its socket, and what it says of the whole."""
    found = status["gateway"]
    if found["phase"] == "stopped":
        return red(
            "gateway", "does not run", "systemctl start appliance.target, then journalctl -u appliance-gateway -n 50"
        )
    where = f"{found['address']}, {found['running']} requests in it"
    if found["phase"] == "draining":
        return yellow("gateway", f"is stopping ({where})", "wait, or systemctl start appliance.target")
    return green("gateway", where)


def live(settings: Settings, status: Mapping[str, Any]) -> Iterator[Check]:
    """Whether live audio is taken, where there is an engine that could hear it."""
    if not settings.live.enabled or all(engine.task != "transcribe" for engine in settings.engines.values()):
        return
    found = status["live"]
    if found is not None and found["phase"] == "ready":
        yield green("live", f"{found['address']}, {found['sessions']} sessions")
    else:
        fix = "systemctl start appliance-live, then journalctl -u appliance-live -n 50; or [live] enabled = false"
        yield yellow("live", "takes no live audio: it does not run, or does not answer", fix)


def engines(settings: Settings, ask: Callable[..., Answer] = probe) -> Iterator[Check]:
    """One real answer from each engine that runs here."""
    for name, engine in settings.engines.items():
        if engine.elsewhere:
            continue  # it runs elsewhere; the gateway says whether it can be reached
        check, state = f"engine {name}", files.read_state(settings.run / f"{name}.json")
        start = f"systemctl start appliance-engine@{name}"
        if state is None:
            yield red(check, "has not been started", start)
        elif state.phase not in _LIVING or not processes.exists(state.supervisor_pid):
            detail = f"{state.phase}: {state.detail}" if state.detail else state.phase
            if state.phase in _LIVING:
                detail = "its supervisor is gone"
            fix = f"appliance logs {name}" if state.phase == "starting" else f"appliance logs {name}; {start}"
            yield red(check, detail, fix)
        else:
            answer = ask(settings.engine_socket(name), shown_by(engine), state.models[0], _ANSWERS_WITHIN_S)
            if answer.ready:
                yield green(check, f"{state.models[0]} answers")
            else:
                yield red(check, f"gives no answer ({answer.why})", f"appliance engine restart {name}")


def ledger(settings: Settings) -> Check:
    """Pages, sums, schema."""
    from appliance.ledger.check import check as look

    try:
        verdict = look(settings.ledger_where)
    except ValueError as e:
        return red("ledger", str(e), "appliance db upgrade")
    except ApplianceError as e:
        return red(
            "ledger",
            e.message,
            "appliance db check; if a release is older than the ledger, rollback.yml or restore.yml",
        )
    if verdict.ok:
        return green("ledger", f"schema {verdict.schema}, {len(verdict.lines)} questions answered right")
    wrong = "; ".join(line.question for line in verdict.lines if not line.ok)
    return red(
        "ledger", f"not right: {wrong}", "keep it and a backup as they are, and call support with `appliance db check`"
    )


def plan(settings: Settings, environ: Mapping[str, str]) -> Check:
    """Whether what is configured fits what is here."""
    from appliance.supervisor import planned
    from appliance.supervisor.command import CannotStart
    from appliance.supervisor.vllm import on_cpu

    try:
        made = planned.plan_machine(settings, planned.measure(environ, on_cpu()))
    except CannotStart as e:
        return red("plan", str(e), "appliance plan")
    if not made.fits:
        out = "; ".join(f"{each.engine} {each.why}" for each in made.left_out)
        return red("plan", f"not everything fits: {out}", "appliance plan shows what would; choose a smaller model")
    down = [
        f"{grant.engine} runs with the {grant.profile} profile" for grant in made.grants if grant.profile != "normal"
    ]
    if down:
        return yellow("plan", "; ".join(down), "it ran out of memory before: choose a smaller model, or add memory")
    return green(
        "plan", ", ".join(f"{each.engine} {each.budget_bytes / 1e9:.1f} GB" for each in made.grants) or "no engines"
    )


def models(settings: Settings) -> Check:
    """Whether every configured model is there as it was installed, under a licence that was accepted."""
    from appliance_models.errors import StoreError
    from appliance_models.store import servable

    wrong = []
    wanted = [name for engine in settings.engines.values() if engine.kind in _FROM_THE_STORE for name in engine.served]
    for name in wanted:
        try:
            servable(settings.models_dir, name)
        except StoreError as e:
            wrong.append(str(e))
    if wrong:
        return red("models", "; ".join(wrong), "appliance models pull, or models verify")
    return green("models", ", ".join(wanted) or "none configured")
