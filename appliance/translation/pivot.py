"""A conversation in the customer's language for a model that speaks another, and its answer on the way back.

What it is: ``Pivot.inward`` gives the messages with what people said in the model's language; ``Pivot.answer`` takes
the model's answer as it comes and gives it to the customer sentence by sentence, in the customer's language and
script. Code, keys, ids, numbers and whatever is in the model's language already stay byte for byte. An answer is
remembered with what it was made of, so that in the next turn it goes back to exactly what the model wrote.
What it refuses to be: I/O or a decision. The translation is a function that is passed in, so are the memories; whether
to pivot and whether an answer will do is policy, which gets ``Signals``, and what was lost both ways (``crossing``).
What it costs: 0.1 ms a turn beside the translation itself, 0.03 ms one that is remembered; 0.2 ms an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from appliance.errors import ApplianceError
from appliance.language_id import identify
from appliance.languages import ENGLISH, script_of
from appliance.translation import jsontext
from appliance.translation.crossing import Crossing, lost
from appliance.translation.glossary import Marked, Matcher, Restored, placeholders, restore, unmarked
from appliance.translation.messages import changed, has_letters, prose
from appliance.translation.pieces import Cutter, Piece, pieces
from appliance.translation.recent import Cache
from appliance.translation.sentences import Stream
from appliance.translation.signals import Signals, measure, script_share
from appliance.transliterate import LATIN, transliterate

Translate = Callable[[Sequence[str], str, str], Awaitable[Sequence[str]]]
"""Sentences, source tag, target tag → their translations, in order."""
ToNative = Callable[[Sequence[str], str], Awaitable[Sequence[str]]]
"""Texts in Latin letters and their tag → the same in the language's own script, ``{{…}}`` left as it is."""

# A text of so few words is taken for the customer's language where the script allows it.
_FEW_WORDS = 5


class Voice(msgspec.Struct, frozen=True):
    """How a customer writes: the language's tag, and whether in Latin letters."""

    tag: str
    romanised: bool = False

    @property
    def script(self) -> str:
        """ISO 15924 code of what they read."""
        return LATIN if self.romanised else script_of(self.tag)


class Inward(msgspec.Struct, frozen=True):
    """A conversation in the model's language.

    ``translated`` and ``remembered`` count texts, ``characters`` those that were translated. ``untranslated`` are in
    Latin letters and would need a transliterator that is not there. ``lost`` are glossary terms that did not come
    through, ``signals`` are of the newest that the customer said.
    """

    messages: list[dict[str, Any]]
    translated: int = 0
    remembered: int = 0
    characters: int = 0
    untranslated: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    signals: Signals | None = None


class Whole(msgspec.Struct, frozen=True):
    """An answer that ended: what the model wrote, what the customer reads, and what a judge can see.

    ``own_script``: the customer writes in Latin letters, and for this language no rule leads there.
    """

    original: str
    text: str
    characters: int
    signals: Signals
    lost: tuple[str, ...] = ()
    own_script: bool = False


def heard(messages: Sequence[Mapping[str, Any]]) -> Voice | None:
    """How the customer writes, by the newest of their messages that tells; None where none does."""
    for message in reversed(messages):
        if message.get("role") == "user":
            found = identify("\n".join(prose(message)))
            if found.tag is not None:
                return Voice(found.tag, found.romanised)
    return None


class Pivot:
    """One customer's voice and one model's language, for one request. Whatever ``translate`` raises passes.

    ``cache`` is of whole texts; ``memory`` of sentences: the tenant's translation memory, where it wants one.
    """

    def __init__(
        self,
        translate: Translate,
        voice: Voice,
        cache: Cache,
        *,
        model: str = ENGLISH,
        to_native: ToNative | None = None,
        terms_in: Matcher | None = None,
        terms_out: Matcher | None = None,
        memory: Cache | None = None,
        crossing: Crossing | None = None,
    ) -> None:
        self.voice = voice
        self.model = model
        self._translate = translate
        self._cache = cache
        self._to_native = to_native
        self._memory = memory
        self.crossing = Crossing() if crossing is None else crossing
        self._terms_in = terms_in or Matcher((), voice.tag, model)
        self._terms_out = terms_out or Matcher((), model, voice.tag)

    async def inward(self, messages: Sequence[Mapping[str, Any]]) -> Inward:
        """``messages`` with what people said in the model's language; the rest byte for byte."""
        seen: dict[str, None] = {}

        def see(text: str) -> str:
            if has_letters(text):
                seen[text] = None
            return text

        for message in messages:
            changed(message, see)
        # an answer of ours comes back in letters that may say little of its language, so memory is asked first
        made = await self._known(list(seen), self.voice.tag)
        fresh: list[str] = []
        untranslated: list[str] = []
        gone: dict[str, tuple[str, ...]] = {}
        said = {text: voice for text in seen if text not in made and (voice := self._spoken(text)) is not None}
        for voice in dict.fromkeys(said.values()):
            texts = [text for text, its in said.items() if its == voice]
            if voice.tag != self.voice.tag:
                made |= await self._known(texts, voice.tag)
            new = [text for text in texts if text not in made]
            if voice.romanised and self._to_native is None:
                untranslated += new
                continue
            restored = await self._in(new, voice)
            made |= {text: one.text for text, one in zip(new, restored, strict=True)}
            gone |= {text: one.lost for text, one in zip(new, restored, strict=True) if one.lost}
            # what lost a term is made again next time, so that the loss is seen again
            await self._cache.put([(text, made[text]) for text in new if text not in gone], voice.tag, self.model)
            fresh += new
        result = [changed(message, lambda text: made.get(text, text)) for message in messages]
        asked = [text for text in _newest(messages) if text in made]
        for text in asked:
            self.crossing.saw(text, made[text], lost_terms=gone.get(text, ()))
        return Inward(
            result,
            translated=len(fresh),
            remembered=len(made) - len(fresh),
            characters=sum(map(len, fresh)),
            untranslated=tuple(untranslated),
            lost=tuple(term for its in gone.values() for term in its),
            signals=_measured(asked, [made[text] for text in asked], script_of(self.model)) if asked else None,
        )

    def answer(self) -> Answer:
        """The way back for one answer."""
        return Answer(self)

    async def structured(self, text: str) -> Whole:
        """An answer that is JSON, which only its whole shows; what is no JSON is taken for prose."""
        if not jsontext.is_json(text):
            answer = self.answer()
            await answer.push(text)
            await answer.end()
            return await answer.whole()
        return await self._values(text, strict=False)

    async def called(self, arguments: str) -> str:
        """Arguments of a tool that the model calls: only what a key says is for people is put in their language."""
        return (await self._values(arguments, strict=True)).text if jsontext.is_json(arguments) else arguments

    async def out(self, texts: Sequence[str]) -> list[Restored]:
        """``texts`` of the model in the customer's language and its own script; what is so already stays."""
        wanted = [text for text in texts if has_letters(text) and not self._is_theirs(text)]
        found = dict(zip(wanted, await self._terms(wanted, self.model, self.voice.tag, self._terms_out), strict=True))
        return [found.get(text, Restored(text)) for text in texts]

    async def back(self, text: str) -> str:
        """``text`` of the customer's language, in its own script, in the model's: a round trip, as a judge wants it."""
        return (await self._terms([text], self.voice.tag, self.model, self._terms_in))[0].text

    def in_script(self, text: str) -> tuple[str, bool]:
        """``text`` of the customer's language in the letters they write, and whether there was a way to those."""
        if not self.voice.romanised:
            return text, True
        try:
            return transliterate(text, self.voice.tag, script_of(self.voice.tag), LATIN, "informal"), True
        except ApplianceError:
            return text, False

    async def remember(self, pairs: Sequence[tuple[str, str]]) -> None:
        """What the customer reads, and what the model wrote: the next turn brings it back."""
        await self._cache.put(pairs, self.voice.tag, self.model)

    def _spoken(self, text: str) -> Voice | None:
        """Whose words ``text`` is in; None where there is nothing to translate."""
        if not has_letters(text):
            return None
        found = identify(text)
        if found.tag == self.model and not found.romanised:
            return None
        alike = found.script == self.voice.script and found.script != script_of(self.model)
        if found.tag is None:
            # too short to tell: in Latin letters "ok" is everybody's word
            return self.voice if alike else None
        if alike and not found.romanised and len(text.split()) < _FEW_WORDS:
            return self.voice
        return Voice(found.tag, found.romanised)

    def _is_theirs(self, text: str) -> bool:
        """Whether the model wrote in the customer's language by itself."""
        script = script_of(self.voice.tag)
        return script != script_of(self.model) and script_share(text, script) > 0.5

    async def _known(self, texts: Sequence[str], tag: str) -> dict[str, str]:
        found = await self._cache.get(texts, tag, self.model) if texts else []
        return {text: one for text, one in zip(texts, found, strict=True) if one is not None}

    async def _in(self, texts: Sequence[str], voice: Voice) -> list[Restored]:
        terms = self._terms_in if voice.tag == self.voice.tag else Matcher((), voice.tag, self.model)
        return await self._terms(texts, voice.tag, self.model, terms, voice.romanised)

    async def _terms(
        self, texts: Sequence[str], source: str, target: str, terms: Matcher, romanised: bool = False
    ) -> list[Restored]:
        """Translations of whole texts, sentence by sentence, with the glossary's terms in place."""
        marked = [terms.mark(text) for text in texts]
        native = [one.text for one in marked]
        if romanised and self._to_native is not None and native:
            native = list(await self._to_native(native, source))
        cut = [pieces(text) for text in native]
        # what is remembered was kept under the customer's own words, not under placeholders
        plain = [{p.body: unmarked(one, p.body) for p in its if p.body} for one, its in zip(marked, cut, strict=True)]
        kept = await self._recalled([words for one in plain for words in one.values()], source, target)
        new = [
            p.body for its, words in zip(cut, plain, strict=True) for p in its if p.body and words[p.body] not in kept
        ]
        known = await self._render(new, source, target)
        # A sentence that lost a term lost what it speaks of: it is translated again with the source's own words, so
        # that it is whole at least; its terms count as lost.
        lossy = [
            {
                body: words
                for body, words in its.items()
                if words not in kept and placeholders(one, body) - placeholders(one, known[body])
            }
            for one, its in zip(marked, plain, strict=True)
        ]
        again = await self._render([sentence for one in lossy for sentence in one.values()], source, target)
        found = []
        fresh: dict[str, str] = {}
        for one, its, words, bad in zip(marked, cut, plain, lossy, strict=True):
            made = {
                body: kept[text] if text in kept else again[text] if body in bad else restore(one, known[body]).text
                for body, text in words.items()
            }
            fresh |= {text: made[body] for body, text in words.items() if text not in kept and body not in bad}
            whole = "".join(p.lead + made.get(p.body, "") + p.tail for p in its)
            found.append(Restored(whole, _lost_terms(one, [p.body for p in its if p.body in bad])))
        await self._learned(fresh, source, target)
        return found

    async def _recalled(self, sentences: Sequence[str], source: str, target: str) -> dict[str, str]:
        """Those that the tenant's memory has."""
        wanted = list(dict.fromkeys(sentences))
        if self._memory is None or not wanted:
            return {}
        found = await self._memory.get(wanted, source, target)
        return {text: one for text, one in zip(wanted, found, strict=True) if one is not None}

    async def _learned(self, made: Mapping[str, str], source: str, target: str) -> None:
        """Keep what came through whole."""
        pairs = [(text, one) for text, one in made.items() if one and not lost(text, one)]
        if self._memory is not None and pairs:
            await self._memory.put(pairs, source, target)

    async def _render(self, bodies: Sequence[str], source: str, target: str) -> dict[str, str]:
        """Translations of sentences, in one call, each once; nothing is the translation of nothing."""
        wanted = list(dict.fromkeys(body for body in bodies if body))
        made = await self._translate(wanted, source, target) if wanted else []
        return {"": "", **dict(zip(wanted, made, strict=True))}

    async def _values(self, text: str, strict: bool) -> Whole:
        found = [value for value in jsontext.values(text) if jsontext.for_people(value, strict)]
        texts = list(dict.fromkeys(value.text for value in found))
        made = await self.out(texts)
        for ours, theirs in zip(texts, made, strict=True):
            self.crossing.saw(ours, theirs.text, lost_terms=theirs.lost)
        scripts = [self.in_script(one.text) for one in made]
        shown = dict(zip(texts, (script[0] for script in scripts), strict=True))
        new = jsontext.replaced(text, {value.start: shown[value.text] for value in found})
        pairs = [(theirs, ours) for ours, theirs in shown.items() if theirs != ours]
        await self.remember(pairs)
        return Whole(
            text,
            new,
            characters=sum(len(ours) for _, ours in pairs),
            signals=_measured(texts, list(shown.values()), self.voice.script),
            lost=tuple(term for one in made for term in one.lost),
            own_script=not all(script[1] for script in scripts),
        )


class Answer:
    """One answer on its way to the customer. ``push`` what comes, ``end`` it, and ask for the ``whole``."""

    def __init__(self, pivot: Pivot) -> None:
        self._pivot = pivot
        self._stream = Stream()
        self._cutter = Cutter()
        self._original: list[str] = []
        self._text: list[str] = []
        self._bodies: list[str] = []
        self._native: list[str] = []
        self._shown: list[str] = []
        self._lost: list[str] = []
        self._own_script = False

    async def push(self, delta: str) -> str:
        """What the customer can read since the last push: the sentences that ``delta`` completes, often none."""
        self._original.append(delta)
        return await self._said(self._stream.push(delta))

    async def end(self) -> str:
        """What is left when the model has ended."""
        return await self._said(self._stream.close())

    async def whole(self, round_trip: bool = False) -> Whole:
        """All of it, after ``end``; remembered for the next turn. ``round_trip`` costs one more translation."""
        original, text = "".join(self._original), "".join(self._text)
        if text != original:
            await self._pivot.remember([(text, original)])
        back = await self._pivot.back("\n".join(self._native)) if round_trip and self._native else None
        return Whole(
            original,
            text,
            characters=sum(map(len, self._bodies)),
            signals=_measured(self._bodies, self._shown, self._pivot.voice.script, back),
            lost=tuple(self._lost),
            own_script=self._own_script,
        )

    async def _said(self, sentences: Sequence[str]) -> str:
        cut = [self._cutter.piece(sentence) for sentence in sentences]
        bodies = [piece.body for piece in cut if piece.body]
        made = iter(await self._pivot.out(bodies) if bodies else [])
        text = "".join(piece.lead + (self._show(piece, next(made)) if piece.body else "") + piece.tail for piece in cut)
        self._text.append(text)
        return text

    def _show(self, piece: Piece, made: Restored) -> str:
        shown, in_script = self._pivot.in_script(made.text)
        self._pivot.crossing.saw(piece.body, shown, lost_terms=made.lost)
        self._bodies.append(piece.body)
        self._native.append(made.text)
        self._shown.append(shown)
        self._lost += made.lost
        self._own_script = self._own_script or not in_script
        return shown


def _lost_terms(marked: Marked, bodies: Sequence[str]) -> tuple[str, ...]:
    """The source's words of every placeholder in ``bodies``."""
    numbers = (number for body in bodies for number in placeholders(marked, body).elements())
    return tuple(marked.places[n - 1].words for n in numbers if 1 <= n <= len(marked.places))


def _newest(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of what the customer said last."""
    return next((prose(message) for message in reversed(messages) if message.get("role") == "user"), [])


def _measured(texts: Sequence[str], made: Sequence[str], script: str, back: str | None = None) -> Signals:
    return measure("\n".join(texts), "\n".join(made), script, back)
