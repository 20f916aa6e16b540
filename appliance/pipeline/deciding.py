"""Who may answer a request, and in which order: the registry, the ledger and the request as ``policy.plan`` wants them.

What it is: ``Decider``, which holds the policy in force and turns one request into ``Seen`` and the engines into
``Candidate``s. ``appliance policy explain`` and the gateway's tests ask it the same way as traffic does.
What it refuses to be: a rule. Every rule is in ``policy``; here is only what it is told.
What it costs: nothing where there is no policy.toml; with one, some 80 µs a request whose turns were read before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from appliance.engines.entry import Entry
from appliance.engines.registry import Registry
from appliance.ledger.tariff import Tariff
from appliance.pipeline.reading import Reader, Said, Topic
from appliance.pipeline.work import Run, Work
from appliance.policy.egress import Offer, ceiling_nusd
from appliance.policy.gate import Asked, strictest
from appliance.policy.parameters import BY_HAND
from appliance.policy.plan import plan
from appliance.policy.rollout import Loaded, chosen
from appliance.policy.values import (
    BUILT_IN,
    Candidate,
    Decision,
    Last,
    PersonalRule,
    Policy,
    Route,
    Seen,
    personal_rule,
)
from appliance.types import Admission, Key, Turn

PROVIDER = "google"
# what a hand-off adds to a prompt, and redaction: a stand-in may be longer than what it stands for
_ROOM_BYTES = 4096
_ROOM = 1.25
_NO_PIVOT = frozenset({"logprobs", "vision", "audio"})
_ROUTES: tuple[Route, ...] = ("local", "pivot", "hosted")


class Known(Struct, frozen=True):
    """What was found out about a request while it was decided, for whoever carries it out."""

    policy: Policy
    topic: Topic
    seen: Seen
    said: Said
    rule: PersonalRule


class Decider:
    """``loaded`` is replaced whole when policy.toml changes; until then nothing here is asked."""

    def __init__(
        self,
        registry: Registry,
        tariff: Callable[[], Tariff],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.loaded = Loaded()
        self.parameters = BY_HAND
        self.reader: Reader | None = None
        self.max_output_tokens: Callable[[str], int] = lambda engine: 8192
        self._registry = registry
        self._tariff = tariff
        self._clock = clock
        self._monotonic = monotonic

    @property
    def active(self) -> bool:
        """Whether there is a policy.toml. Without one every request goes to the least busy engine here."""
        return self.loaded.stable is not BUILT_IN or self.loaded.trial is not None

    def decide(self, work: Work, run: Run) -> tuple[Decision, Known]:
        """The plan of one chat request."""
        admission, admitted = run.admission, run.admitted
        assert admitted is not None and self.reader is not None
        key = admission.request.key
        policy = chosen(self.loaded, key.tenant.id, admitted.conversation_id)
        topic = Topic(work.tail)
        said = self.reader.said(key.tenant.id, topic.newest)
        rule = personal_rule(policy, key.tenant.id)
        asked = self._asked(policy, admission, topic, rule, admitted.hosted_nusd)
        seen = self._seen(work, run, topic, said, asked)
        decision = plan(policy, seen, self.candidates(policy, seen, work.model, admission.hosted_nusd))
        return decision, Known(policy, topic, seen, said, rule)

    # the request

    def _asked(self, policy: Policy, admission: Admission, topic: Topic, rule: PersonalRule, held_nusd: int) -> Asked:
        key, turn = admission.request.key, admission.turn
        asked = Asked(
            residency=strictest(key.tenant.residency, key.residency, turn.residency),
            regions=key.tenant.regions,
            personal_data=rule.mode,
            media=bool(topic.media),
            budget_nusd=held_nusd,
        )
        if asked.residency == "local_only" or not policy.hosted.enabled:
            return asked  # nothing leaves, so nobody needs to know what is in it
        assert self.reader is not None
        formats = _compiled(rule.formats)
        found = self.reader.personal(topic.messages, formats, "|".join(rule.formats))
        return replace(asked, personal=bool(found))

    def _seen(self, work: Work, run: Run, topic: Topic, said: Said, asked: Asked) -> Seen:
        turn = run.admission.turn
        return Seen(
            model=work.model,
            asked=asked,
            intent=turn.intent if turn.intent is not None else said.intent,
            intent_confidence=1.0 if turn.intent is not None else said.confidence,
            value_class=turn.value_class,
            language=turn.language or said.language,
            context_tokens=topic.context_tokens,
            needs=topic.needs,
            last=self._last(run),
            in_tool_loop=topic.in_tool_loop,
            customer_asked=said.wants_person,
            reopened=run.admitted is not None and run.admitted.reopened,
            pinned=_pinned(turn),
            deadline_s=work.deadline_s,
        )

    def _last(self, run: Run) -> Last | None:
        admitted = run.admitted
        if admitted is None or admitted.answered_by not in _ROUTES:
            return None
        idle_s = max(0.0, (run.admission.request.at_ms - admitted.last_seen_ms) / 1000.0)
        return Last(admitted.answered_by, "", "", idle_s)

    # the engines

    def candidates(self, policy: Policy, seen: Seen, model: str, ceiling: int) -> list[Candidate]:
        """Every engine that could answer, as it is now."""
        now = self._monotonic()
        found: list[Candidate] = []
        for name, entry in self._registry.entries.items():
            if entry.hosted:
                if policy.hosted.model in entry.state.models and model in (policy.hosted.model, seen.model):
                    found.append(self._hosted(policy, name, entry, now, ceiling))
            elif model in entry.state.models:
                found.append(_local(name, entry, now))
                if _pivots(seen) and (translator := self._translator(now)) is not None:
                    found.append(_pivot(name, entry, translator, now))
        for c in found:
            if c.ready and not c.open:
                break
        else:
            # to spare the last that could answer would only turn a failure that may be over into one that is certain
            found = [replace(c, open=False) if c.route != "hosted" else c for c in found]
        return found

    def _hosted(self, policy: Policy, name: str, entry: Entry, now: float, ceiling: int) -> Candidate:
        priced = self.offer(name, policy.hosted.model, int(self._clock() * 1000)) is not None
        return Candidate(
            name,
            ready=entry.state.phase == "ready",
            in_flight=entry.in_flight,
            route="hosted",
            model=policy.hosted.model,
            context_tokens=entry.state.context_tokens,
            open=not entry.breaker.allows(now),
            region=entry.state.region,
            ceiling_nusd=ceiling,
            capabilities=frozenset({"tools", "json_schema", "vision", "audio"}),
            ttft_ms=entry.predicted_ttft_ms,
            priced=priced,
        )

    def translator(self) -> str | None:
        """The model that translates for ``pivot``."""
        entry = self._translator(self._monotonic())
        return None if entry is None else entry.state.models[0]

    def _translator(self, now: float) -> Entry | None:
        entries = (e for e in self._registry.entries.values() if e.state.task == "translate" and e.state.models)
        return next((e for e in entries if e.takes(now)), None)

    def offer(self, engine: str, model: str, at_ms: int) -> Offer | None:
        """What a hosted model costs; None where nobody has set a price, and then it is not asked."""
        entry = self._registry.entries.get(engine)
        prices = self._tariff().token_prices(PROVIDER, model, at_ms)
        if entry is None or prices is None:
            return None
        return Offer(engine, model, entry.state.region, *prices, self.max_output_tokens(engine))

    def offer_now(self, engine: str, model: str) -> Offer | None:
        """The same at this moment."""
        return self.offer(engine, model, int(self._clock() * 1000))

    def hosted_nusd(self, tail: bytes, key: Key, turn: Turn, at_ms: int) -> int:
        """The most that a hosted attempt at this body may cost; 0 where none can be made."""
        residency = strictest(key.tenant.residency, key.residency, turn.residency)
        if residency == "local_only" or not self.active or not tail:
            return 0
        most = 0
        for policy in {p.version: p for p in (self.loaded.stable, self.loaded.trial) if p is not None}.values():
            for name, entry in self._registry.entries.items():
                if not (policy.hosted.enabled and entry.hosted and entry.state.region in key.tenant.regions):
                    continue
                if (offer := self.offer(name, policy.hosted.model, at_ms)) is not None:
                    dearer = offer.prompt_nusd * _ROOM_BYTES // 1_000_000
                    most = max(most, int(ceiling_nusd(offer, b"{" + tail) * _ROOM) + dearer)
        return most


def _local(name: str, entry: Entry, now: float) -> Candidate:
    state = entry.state
    return Candidate(
        name,
        state.phase == "ready",
        entry.in_flight,
        context_tokens=state.context_tokens,
        languages=frozenset(state.languages) or None,
        ttft_ms=entry.predicted_ttft_ms,
        open=not entry.breaker.allows(now),
    )


def _pivot(name: str, entry: Entry, translator: Entry, now: float) -> Candidate:
    both = frozenset(translator.state.languages) or None
    return replace(_local(name, entry, now), route="pivot", languages=both)


def _pivots(seen: Seen) -> bool:
    return seen.language is not None and _NO_PIVOT.isdisjoint(seen.needs)


def _pinned(turn: Turn) -> Route | None:
    return None if turn.route is None else next((route for route in _ROUTES if route == turn.route), None)


def _compiled(formats: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in formats]  # re keeps what it has compiled
