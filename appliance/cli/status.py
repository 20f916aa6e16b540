"""``appliance status``: every engine, what it does, and what became of its last runs.

What it is: one look (``look``) at state files, histories, ``serve`` and the gateway, printed as a table or as JSON.
What it refuses to be: dependent on a running appliance. What is stopped is shown from the files.
What it costs: a few milliseconds a look, and a walk over the engines' processes for their memory.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import settings_or_exit
from appliance.cli.control import Refused, ask
from appliance.settings import Settings
from appliance.supervisor import files, history, processes
from appliance.supervisor.live_child import read_live
from appliance.supervisor.network import live_sessions
from appliance.supervisor.reclaim import held_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVERY_S = 1.0
_ASK_WITHIN_S = 2.0
_COLOURS = {"ready": "green", "failed": "red", "stopped": "dim"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, once.")
@click.option("--once", is_flag=True, help="Print the table once and end.")
def status(as_json: bool, once: bool) -> None:
    """What every engine is doing; on a terminal the table refreshes until Ctrl-C.

    Ends with 0 when everything takes requests, with 1 when not (--json and --once).
    """
    settings = settings_or_exit()
    if as_json:
        found = look(settings)
        click.echo(json.dumps(found, indent=1))
        sys.exit(0 if found["ready"] else 1)
    from rich.console import Console

    console = Console()
    if once or not console.is_terminal:
        found = look(settings)
        console.print(table(found))
        sys.exit(0 if found["ready"] else 1)
    from rich.live import Live

    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(table(look(settings)), console=console, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(_EVERY_S)
            live.update(table(look(settings)), refresh=True)


def look(settings: Settings) -> dict[str, Any]:
    """Everything there is to say, for programs."""
    gateway = _asked(settings.run / "control.sock", "the gateway")
    serve = _asked(settings.run / "serve.ctl", "appliance serve")
    engines = {name: _engine(settings, name, gateway, serve) for name in settings.engines}
    return {
        "home": str(settings.home),
        "ready": bool(gateway and gateway["ready"] and not gateway["draining"]),
        "gateway": _gateway(settings, gateway),
        "live": _live(settings, serve),
        "served_by": None if serve is None else serve["pid"],
        "engines": engines,
    }


def _asked(path: Path, who: str) -> dict[str, Any] | None:
    try:
        return ask(path, "status", timeout_s=_ASK_WITHIN_S, who=who)
    except (Refused, OSError):
        return None


def _gateway(settings: Settings, gateway: dict[str, Any] | None) -> dict[str, Any]:
    where = f"{settings.server.host}:{settings.server.port}"
    if gateway is None:
        return {"phase": "stopped", "address": where}
    phase = "draining" if gateway["draining"] else "ready"
    since = {"since_unix_s": gateway["since_unix_s"], "pid": gateway["pid"]}
    policy = gateway.get("policy") or {}
    return {"phase": phase, "address": where, "running": gateway["running"], **since, "policy": policy}


def _live(settings: Settings, serve: dict[str, Any] | None) -> dict[str, Any] | None:
    """The live process, whoever started it; None where there is none and none is wanted."""
    state = read_live(settings.run)
    phase = (serve or {}).get("live", {}).get("phase", "off")
    if state is None or not processes.exists(state.pid):
        return None if phase == "off" else {"phase": phase, "address": f"{settings.server.host}:{settings.live_port}"}
    sessions = live_sessions(state.address)
    found: dict[str, Any] = {"phase": "failed" if sessions is None else "ready", "address": state.address}
    return {**found, "pid": state.pid, "since_unix_s": state.since_unix_s, "sessions": sessions}


def _engine(
    settings: Settings, name: str, gateway: dict[str, Any] | None, serve: dict[str, Any] | None
) -> dict[str, Any]:
    configured = settings.engines[name]
    seen = (gateway or {}).get("engines", {}).get(name, {})
    found: dict[str, Any] = {"kind": configured.kind, "task": configured.task, "in_flight": seen.get("in_flight", 0)}
    if configured.elsewhere:
        where = configured.elsewhere
        phase = seen.get("phase", "unknown")
        return {
            **found,
            "phase": phase,
            "models": seen.get("models", []),
            "detail": seen.get("detail", ""),
            "at": where,
        }
    past = history.read(settings, name)
    child = (serve or {}).get("engines", {}).get(name, {})
    found |= {"breaker_open": bool(child.get("tripped")), "last_ends": [_end(ending) for ending in past.endings[-5:]]}
    state = files.read_state(settings.run / f"{name}.json")
    if state is None:
        models = list(configured.served)
        return {**found, "phase": "stopped", "models": models, "detail": "has not been started yet"}
    living = state.phase in ("starting", "ready", "swapping", "stopping")
    alive = living and processes.exists(state.supervisor_pid)
    pids = {state.engine_pid, *processes.descendants(state.engine_pid)} if alive and state.engine_pid else set()
    swapped = past.model if past.model and past.model != configured.model else ""
    return {
        **found,
        "phase": "failed" if living and not alive else state.phase,
        "models": list(state.models),
        "swapped_from": configured.model if swapped else None,
        "detail": "its supervisor is gone" if living and not alive else state.detail,
        "exit": state.exit,
        "since_unix_s": state.since_unix_s,
        "next_start_unix_s": state.next_start_unix_s or None,
        "context_tokens": state.context_tokens,
        "memory_profile": state.profile,
        "tuned": state.tuned,
        "memory_bytes": held_bytes(pids),
        "supervisor_pid": state.supervisor_pid if alive else 0,
        "engine_pid": state.engine_pid if alive else 0,
    }


def _end(ending: history.Ending) -> dict[str, Any]:
    return {
        "what": ending.what,
        "code": ending.code,
        "ended_unix_s": ending.ended_unix_s,
        "ran_s": round(ending.ended_unix_s - ending.started_unix_s, 1),
        "model": ending.model,
        "memory_profile": ending.profile,
        "detail": ending.detail,
    }


# for people


def table(found: dict[str, Any]) -> RenderableType:
    """The table of one look."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now = time.time()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("ENGINE", "MODEL", "STATE", "FOR", "IN IT", "MEMORY", "LAST ENDS"):
        grid.add_column(head, justify="right" if head in ("FOR", "IN IT", "MEMORY") else "left")
    gateway = found["gateway"]
    phase = gateway["phase"]
    grid.add_row("gateway", gateway["address"], _phase(phase), _for(gateway, now), str(gateway.get("running", "")))
    if (live := found["live"]) is not None:
        sessions = "" if live.get("sessions") is None else str(live["sessions"])
        grid.add_row("live", live["address"], _phase(live["phase"]), _for(live, now), sessions)
    notes = _policy(gateway.get("policy") or {})
    for name, engine in found["engines"].items():
        model = ", ".join(engine["models"])
        size = engine.get("memory_bytes", 0)
        grid.add_row(
            name,
            model + (" (swapped)" if engine.get("swapped_from") else ""),
            _phase(engine["phase"], bool(engine.get("breaker_open"))),
            _for(engine, now),
            str(engine["in_flight"]),
            _size(size),
            _ends(engine.get("last_ends", []), now),
        )
        if engine["detail"]:
            due = engine.get("next_start_unix_s")
            wait = f" (in {max(0, due - now):.0f} s)" if due else ""
            notes.append(Text(f"{name}: {engine['detail']}{wait}"))
        if engine.get("tuned") and engine["phase"] in ("starting", "ready", "swapping"):
            notes.append(Text(f"{name} {engine['tuned']}"))
    return Group(grid, *notes)


def _policy(policy: dict[str, Any]) -> list[Any]:
    """What is to be said of policy.toml: what is on trial, and what is wrong with the newest version."""
    from rich.text import Text

    notes = []
    if trial := policy.get("trial"):
        share = f"decides {trial['share']:.0%} of conversations"
        how = f"was stopped: {trial['stopped']}" if trial["stopped"] else share
        notes.append(Text(f"policy {trial['version']} {how}; {policy['version']} decides the others"))
    if policy.get("error"):
        notes.append(Text(f"policy.toml is not in force, {policy['version']} is: {policy['error']}"))
    return notes


def _phase(phase: str, tripped: bool = False) -> str:
    colour = _COLOURS.get(phase, "yellow")
    return f"[{colour}]{phase}{', breaker open' if tripped else ''}[/]"


def _size(size: int) -> str:
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _for(item: dict[str, Any], now: float) -> str:
    return _duration(now - item["since_unix_s"]) if item.get("since_unix_s") else ""


def _ends(ends: list[dict[str, Any]], now: float) -> str:
    """The last three that nobody asked for, the newest first."""
    told = [end for end in reversed(ends) if end["what"] not in ("stopped", "restart")][:3]
    return ", ".join(f"{end['what'].replace('_', ' ')} {_duration(now - end['ended_unix_s'])} ago" for end in told)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
