"""What each engine gets on a machine: a pure function of a hardware snapshot, the engines wanted and the settings.

What it is: ``plan`` takes what runs already as given, places the rest, shares the memory that is left as cache, and
says why. Where not everything fits it plans for the largest set that does, and names what would fit instead.
What it refuses to be: a measurement. Sizes come from the catalogue; those nobody measured are assumed, and the plan
says which. ``planned.py`` reads the machine and calls this.
What it costs: a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from appliance.supervisor.hardware import Gpu, Hardware
from appliance.supervisor.memory import RULES, Grant, LeftOut, Plan, Pool, Profile, Rules, Want
from appliance.supervisor.placing import MIB, Place, Room, Rooms, largest_set, make_room, place_all

# vLLM's block sizes: what the cache is handed out in
_BLOCK_TOKENS = {True: 16, False: 128}
_CONTEXT_STEP = 256
_ALTERNATIVES = 3


class Own(Struct, frozen=True):
    """What the appliance's engines hold while the machine is measured: it is theirs, not a stranger's."""

    pids: frozenset[int] = frozenset()
    ram_bytes: int = 0


def plan(
    hardware: Hardware,
    wants: Sequence[Want],
    request_tokens: int,
    *,
    profiles: Mapping[str, Profile] | None = None,
    held: Mapping[str, Grant] | None = None,
    own: Own | None = None,
    catalogue: Sequence[Want] = (),
) -> Plan:
    """The plan for ``wants`` on ``hardware``, where a typical request has ``request_tokens`` (prompt and answer).

    ``profiles`` of engines that stepped down; ``held`` what running engines were granted, which stays; ``catalogue``
    are the models that may be named instead of one that does not fit.
    """
    held = {engine: grant for engine, grant in (held or {}).items() if any(w.engine == engine for w in wants)}
    profiles = profiles or {}
    new = [_bounded(want, profiles.get(want.engine, "normal")) for want in wants if want.engine not in held]
    headroom = max((RULES[profiles.get(w.engine, "normal")].headroom for w in new), default=RULES["normal"].headroom)
    rooms = _rooms(hardware, request_tokens, headroom, held, own or Own())
    places, failed, forced = _place(rooms, new)
    shared = rooms.share(places)
    made = {}
    for place in places:
        engine = place.want.engine
        profile = profiles.get(engine, "normal")
        kv = _scaled(rooms, place, shared[engine], RULES[profile])
        for room in rooms.rooms_of(place.gpus):
            room.left += (shared[engine] - kv) // place.parts
        made[engine] = _grant(rooms, place, kv, profile, bool(hardware.gpus), engine in forced)
    grants = tuple(held.get(w.engine) or made[w.engine] for w in wants if w.engine in held or w.engine in made)
    left_out = tuple(_left_out(rooms, want, catalogue) for want in failed)
    pools = tuple(_pool(room, hardware, own or Own()) for room in (*rooms.gpus.values(), rooms.ram))
    return Plan(hardware, request_tokens, grants, left_out, pools, hardware.notes)


def _bounded(want: Want, profile: Profile) -> Want:
    """A cache that was set wins, until the engine ran out of memory with it; from then on it is an upper bound."""
    if profile == "normal" or want.kv is None or want.kv_cache_bytes is None:
        return want
    return replace(want, kv_cache_bytes=None, kv_at_most=want.kv_cache_bytes)


def _rooms(hardware: Hardware, request_tokens: int, headroom: float, held: Mapping[str, Grant], own: Own) -> Rooms:
    """The machine's memory, less the headroom and what running engines were granted."""
    in_ram = sum(grant.host_bytes if grant.gpus else grant.budget_bytes for grant in held.values())
    ours = min(own.ram_bytes, in_ram)
    ram = make_room(None, hardware.ram_limit_bytes, hardware.ram_free_bytes, ours, headroom)
    ram.left -= in_ram
    gpus = {}
    for gpu in hardware.gpus:
        granted = sum(_on(grant, gpu.index) for grant in held.values())
        room = make_room(gpu, gpu.total_bytes, gpu.free_bytes, _ours(gpu, own, granted), headroom)
        room.left -= granted
        gpus[gpu.index] = room
    return Rooms(ram, gpus, request_tokens, hardware.cores)


def _on(grant: Grant, gpu: int) -> int:
    return grant.budget_bytes // len(grant.gpus) if gpu in grant.gpus else 0


def _ours(gpu: Gpu, own: Own, granted: int) -> int:
    """How much of a GPU's used memory is already in our engines' grants. Where the driver names no sizes: all of them.

    What an engine holds beyond its grant is gone like a stranger's.
    """
    mine = [process.used_bytes for process in gpu.processes if process.pid in own.pids]
    if mine and None not in mine:
        return min(sum(size for size in mine if size is not None), granted)
    return min(granted, gpu.used_bytes)


def _place(rooms: Rooms, wants: Sequence[Want]) -> tuple[list[Place], list[Want], set[str]]:
    """Places, those left out, and those placed although they do not fit."""
    trial = place_all(rooms.copy(), wants)[1]
    # an operator who set the cache knows something that the plan does not, or finds out from the engine itself
    forced = [want for want in trial if want.kv_cache_bytes is not None]
    rest = [want for want in wants if want not in forced]
    chosen = largest_set(rooms, rest)
    places = {place.want.engine: place for place in place_all(rooms, chosen)[0]}
    places |= {want.engine: rooms.force(want) for want in forced}
    failed = [want for want in rest if want not in chosen]
    return [places[w.engine] for w in wants if w.engine in places], failed, {want.engine for want in forced}


def _scaled(rooms: Rooms, place: Place, shared: int, rules: Rules) -> int:
    """What a profile takes of a cache."""
    if rules.kv == 1 or not shared:
        return shared
    unit = MIB * place.parts
    is_set = place.want.kv_cache_bytes is not None or bool(place.want.unknown)
    return max(int(shared * rules.kv) // unit * unit, unit if is_set else rooms.least_kv(place.want, place.parts))


def _grant(rooms: Rooms, place: Place, kv: int, profile: Profile, on_gpu: bool, forced: bool) -> Grant:
    want, rules, parts = place.want, RULES[profile], place.parts
    context, why = _context(want, kv)
    stated = min(rooms.stated(want), context) if context else 0
    concurrent = requests = tokens = 0
    if want.kv is not None:
        tokens = _tokens(want, kv, parts, context, _BLOCK_TOKENS[on_gpu])
        fitting = max(kv // want.kv.request_bytes(stated), 1)
        requests = max(int((want.max_concurrent or rooms.most_requests) * rules.requests), 1)
        requests = requests if want.max_concurrent else min(requests, fitting)
        concurrent = min(fitting, requests)
    room = rooms.rooms_of(place.gpus)[0]
    grant = Grant(
        engine=want.engine,
        model=want.model,
        profile=profile,
        gpus=place.gpus,
        weights_bytes=want.weights_bytes,
        workspace_bytes=want.workspace_bytes * parts,
        host_bytes=want.host_bytes,
        kv_bytes=kv,
        kv_tokens=tokens,
        context_tokens=context,
        request_tokens=stated,
        concurrent=concurrent,
        max_requests=requests,
    )
    share = int(grant.budget_bytes / parts / room.total * 10_000) / 10_000 if place.gpus else 0.0
    sentences = [*_why_here(rooms, place), *_why_kv(rooms, place, kv, rules), *why, *want.assumed]
    if want.unknown:
        sentences.append(want.unknown)
    if forced:
        sentences.append(
            f"does not fit by this plan ({gb(grant.budget_bytes)} wanted) and is started all the same, because its"
            " kv_cache_bytes is set; remove that setting to let the plan decide"
        )
    return replace(grant, gpu_share=min(share, 1.0), why=tuple(sentences))


def _context(want: Want, kv: int) -> tuple[int, list[str]]:
    """The longest request the engine takes, and why it is shorter than the model could."""
    if want.kv is None or not want.context_tokens:
        return want.context_tokens, []
    longest = want.kv.longest(kv, want.context_tokens, _CONTEXT_STEP)
    if longest == want.context_tokens:
        return longest, []
    longest = max(longest, min(_CONTEXT_STEP, want.context_tokens))
    return longest, [
        f"context shortened from {want.context_tokens:,} to {longest:,} tokens: more does not fit in its cache"
    ]


def _tokens(want: Want, kv: int, parts: int, context: int, block: int) -> int:
    """How many tokens the cache holds, counted as vLLM counts: whole blocks; requests of full length where layers
    have a window."""
    assert want.kv is not None
    if want.kv.window_tokens and context:
        return int(kv / want.kv.request_bytes(context) * context)
    return kv // parts // max(want.kv.bytes_per_token * block // parts, 1) * block


def _why_here(rooms: Rooms, place: Place) -> list[str]:
    want = place.want
    if not rooms.gpus:
        return []
    if want.gpus is not None:
        return [f"on GPU {_list(place.gpus)}, as set" if place.gpus else "runs in RAM, as set"]
    if not place.gpus:
        return ["runs in RAM, because no GPU has room for it"]
    if place.parts > 1:
        return [f"divided over GPU {_list(place.gpus)}: its {gb(rooms.needs(want))} at least fit on no single one"]
    return [f"on GPU {place.gpus[0]}, which had most room"] if len(rooms.gpus) > 1 else []


def _why_kv(rooms: Rooms, place: Place, kv: int, rules: Rules) -> list[str]:
    want, parts = place.want, place.parts
    sentences = []
    if rules.kv < 1:
        sentences.append(f"its profile takes {rules.kv:g} of the cache and {rules.requests:g} of the requests at once")
    if want.kv_cache_bytes is not None:
        sentences.append(f"kv_cache_bytes = {want.kv_cache_bytes:,} is set" + (" (for each GPU)" if parts > 1 else ""))
    elif want.kv_at_most is not None:
        sentences.append(f"kv_cache_bytes = {want.kv_at_most:,} is set and no longer wins: it ran out of memory")
    elif want.kv is not None:
        each = want.kv.request_bytes(rooms.stated(want))
        if kv >= rooms.most_kv(want, parts):
            requests = want.max_concurrent or rooms.most_requests
            sentences.append(
                f"cache for {requests} requests at once ({gb(each)} each), or for the longest one: more would be idle"
            )
        elif rules.kv == 1:
            sentences.append(f"cache is its share of what was left ({gb(each)} a request)")
    return sentences


def _left_out(rooms: Rooms, want: Want, catalogue: Sequence[Want]) -> LeftOut:
    where = "RAM has" if not rooms.gpus else "the roomiest GPU has"
    left = max((room.left for room in rooms.gpus.values()), default=rooms.ram.left)
    parts = [f"weights {gb(want.weights_bytes)}", f"workspace {gb(want.workspace_bytes)}"]
    if not rooms.gpus:
        parts.append(f"processes {gb(want.host_bytes)}")
    if kv := rooms.least_kv(want, 1):
        parts.append(f"cache of one request {gb(kv)}")
    why = f"needs {gb(rooms.needs(want))} ({', '.join(parts)}) and {where} {gb(max(left, 0))} left beside the others"
    if want.gpus and any(index not in rooms.gpus for index in want.gpus):
        why = f"is to run on GPU {_list(want.gpus)}, and this machine has {_list(rooms.gpus) or 'none'}"
    if rooms.gpus and rooms.ram.left < want.host_bytes:
        why = f"needs {gb(want.host_bytes)} of RAM for its processes and {gb(max(rooms.ram.left, 0))} are left"
    if want.unknown:
        why += f"; {want.unknown}"
    smaller = [c for c in catalogue if c.task == want.task and not c.unknown and c.weights_bytes < want.weights_bytes]
    smaller.sort(key=lambda candidate: -candidate.weights_bytes)
    instead = [candidate.model for candidate in smaller if rooms.copy().place(candidate) is not None]
    return LeftOut(want.engine, want.model, why, tuple(instead[:_ALTERNATIVES]))


def _pool(room: Room, hardware: Hardware, own: Own) -> Pool:
    gpu = room.gpu
    free = hardware.ram_free_bytes if gpu is None else gpu.free_bytes
    spare = max(room.left, 0)
    available = max(room.total - room.others - room.headroom, 0)
    others = () if gpu is None else tuple(
        f"{process.name} (pid {process.pid}{'' if process.used_bytes is None else ', ' + gb(process.used_bytes)})"
        for process in gpu.processes
        if process.pid not in own.pids
    )  # fmt: skip
    return Pool(
        gpu=None if gpu is None else gpu.index,
        name="RAM" if gpu is None else gpu.name,
        total_bytes=room.total,
        free_bytes=free,
        others_bytes=room.others,
        headroom_bytes=room.headroom,
        granted_bytes=max(available - room.left, 0),
        spare_bytes=spare,
        others=others,
    )


def gb(size: float) -> str:
    """Bytes for people, in decimal gigabytes as on the box."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _list(numbers: Sequence[int] | Mapping[int, Room]) -> str:
    return ", ".join(map(str, numbers))
