"""Words a tenant wants left alone or translated in one way: marked before a translation, put in place after it.

What it is: pure functions on values. ``Matcher.mark`` replaces each term of a text by a template (``{{T1}}``), which
the translation protects byte for byte; ``restore`` puts the wanted words there and names those that were lost.
The longest term wins, terms begin and end where words do in every script, and none is found inside an address, a
template or a tag.
What it refuses to be: grammar. A term matches the form it was entered in, not its inflections (``Chennai`` in
``சென்னையில்`` is no match for ``சென்னை``), and what is put in place is not inflected either; forms that matter are terms
of their own. Nothing that was lost is invented back.
What it costs: the number of terms hardly matters; 1 µs a character to find them, 7 µs a term to build a Matcher.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from appliance.translation.folding import Folded, fold, is_word, lowered

Case = Literal["smart", "any", "exact"]
ANY = "*"
LONGEST = 200  # characters of a term

# What is one thing: a term inside it is part of its name. A term that is the whole of it is a match.
_WHOLE = re.compile(
    r"\{\{[^{}]{0,200}\}\}|\$\{[^{}]{0,200}\}|\{[A-Za-z0-9_.:]{0,64}\}|</?[A-Za-z][^<>]{0,500}>"
    r"|(?:https?|ftp)://[^\s<>\"]{1,2000}|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}"
    r"|(?<![\w@#])[@#][\w-]{1,64}|(?<![A-Za-z0-9.-])[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}(?:/[^\s<>\"]{0,2000})?"
)
_SENTENCE_BEFORE = re.compile(r"(?:\A|[.!?।॥۔؟\n])[\s\"'“‘(]*\Z")


class Term(msgspec.Struct, frozen=True):
    """One entry: ``term`` becomes ``translation``, or stays as the customer wrote it where that is None.

    ``case``: ``exact`` minds capitals, ``any`` does not, ``smart`` minds them where the term has no small letter (so
    that ``IT`` is not ``it``). ``source`` and ``target`` are tags, or ``*`` for every language.
    """

    term: str
    translation: str | None = None
    case: Case = "smart"
    source: str = ANY
    target: str = ANY


class Place(msgspec.Struct, frozen=True):
    """Placeholder ``n`` of a marked text: the customer's words, what takes their place, and how often."""

    words: str
    becomes: str
    forced: bool
    times: int


class Marked(msgspec.Struct, frozen=True):
    """A text whose terms are placeholders; ``places[i]`` is placeholder ``i + 1`` behind ``prefix``."""

    text: str
    prefix: str = "T"
    places: tuple[Place, ...] = ()


class Restored(msgspec.Struct, frozen=True):
    """A translated text with its terms. ``lost``, ``repeated``: the source's words, once a time too few or many."""

    text: str
    lost: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


class _Known(msgspec.Struct, frozen=True):
    """A term in the form it is compared in."""

    form: str
    exact: bool
    term: Term


class Matcher:
    """The terms that hold from one language to another. Immutable; for any number of threads."""

    def __init__(self, terms: Iterable[Term], source: str, target: str) -> None:
        self._by_start: dict[str, list[_Known]] = {}
        chosen: dict[tuple[str, bool], tuple[int, Term]] = {}
        for term in terms:
            if term.source in (ANY, source) and term.target in (ANY, target):
                key, rank = form_of(term), (term.source != ANY) + 2 * (term.target != ANY)
                # the entry that names these languages beats the one for all
                if key[0] and (key not in chosen or chosen[key][0] <= rank):
                    chosen[key] = rank, term
        for (form, exact), (_, term) in chosen.items():
            self._by_start.setdefault(lowered(_start(form, 0)), []).append(_Known(form, exact, term))
        for known in self._by_start.values():
            known.sort(key=lambda one: (len(one.form), one.exact), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._by_start)

    def mark(self, text: str) -> Marked:
        """``text`` with its terms replaced. The same text always gives the same placeholders."""
        found = list(self._matches(text)) if self._by_start else []
        if not found:
            return Marked(text)
        prefix = "T"
        while re.search(rf"\{{\{{\s?{prefix}", text):
            prefix += "T"
        numbers: dict[tuple[str, str], int] = {}
        counts: list[int] = []
        forced: list[bool] = []
        out: list[str] = []
        end = 0
        for start, stop, term in found:
            words = text[start:stop]
            number = numbers.setdefault((words, _becomes(term, words)), len(numbers))
            if number == len(counts):
                counts.append(0)
                forced.append(term.translation is not None)
            counts[number] += 1
            out += text[end:start], "{{", prefix, str(number + 1), "}}"
            end = stop
        out.append(text[end:])
        places = tuple(Place(w, b, forced[n], counts[n]) for (w, b), n in numbers.items())
        return Marked("".join(out), prefix, places)

    def _matches(self, text: str) -> Iterator[tuple[int, int, Term]]:
        """Start, end and term of each match, left to right, none over another."""
        folded = fold(text)
        low = lowered(folded.text)
        wholes = [match.span() for match in _WHOLE.finditer(text)]
        at = whole = 0
        while at < len(low):
            start = _start(low, at)
            for known in self._by_start.get(start, ()):
                stop = at + len(known.form)
                if not _is_at(known, folded, low, at, stop):
                    continue
                first, last = folded.starts[at], folded.ends[stop - 1]
                while whole < len(wholes) and wholes[whole][1] <= first:
                    whole += 1
                if not _cuts(wholes, whole, first, last):
                    yield first, last, known.term
                    at = stop
                    break
            else:
                at += len(start)


def restore(marked: Marked, translated: str) -> Restored:
    """``translated`` with the terms of ``marked`` in place of what is left of their placeholders."""
    if not marked.places:
        return Restored(translated)
    counts = [0] * len(marked.places)
    out: list[str] = []
    end = 0
    for match in _found(marked, translated):
        out.append(translated[end : match.start()])
        end = match.end()
        number = int(match[1])
        if 1 <= number <= len(counts):
            counts[number - 1] += 1
            out.append(_capital(marked.places[number - 1], out))
    out.append(translated[end:])
    lost = [p.words for p, n in zip(marked.places, counts, strict=True) for _ in range(p.times - n)]
    repeated = [p.words for p, n in zip(marked.places, counts, strict=True) for _ in range(n - p.times)]
    return Restored("".join(out), tuple(lost), tuple(repeated))


def placeholders(marked: Marked, text: str) -> Counter[int]:
    """The placeholders of ``marked`` that stand in ``text``, by number, and how often."""
    return Counter(int(match[1]) for match in _found(marked, text)) if marked.places else Counter()


def unmarked(marked: Marked, part: str) -> str:
    """``part`` of a marked text with the source's words back in place: for a translation that lost what was marked."""
    out: list[str] = []
    end = 0
    for match in _found(marked, part) if marked.places else ():
        if 1 <= int(match[1]) <= len(marked.places):
            out += part[end : match.start()], marked.places[int(match[1]) - 1].words
            end = match.end()
    return "".join(out) + part[end:]


def _found(marked: Marked, text: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"\{{\{{\s?{marked.prefix}(\d{{1,6}})\s?\}}\}}", text)


def form_of(term: Term) -> tuple[str, bool]:
    """The form ``term`` is compared in, and whether capitals count; two terms of one form are the same entry."""
    form = fold(term.term).text.strip()
    exact = term.case == "exact" or (term.case == "smart" and form.isupper())
    return (form if exact else lowered(form)), exact


def _becomes(term: Term, words: str) -> str:
    return words if term.translation is None else term.translation


def _start(text: str, at: int) -> str:
    """The word that begins at ``at``, or the one character there that is in no word."""
    end = at
    while end < len(text) and is_word(text[end]):
        end += 1
    return text[at : max(end, at + 1)]


def _is_at(known: _Known, folded: Folded, low: str, at: int, stop: int) -> bool:
    if not (folded.text if known.exact else low).startswith(known.form, at):
        return False
    # what is no word has no edges: "C++" may stand before a letter, "C" may not
    ends = stop < len(low) and is_word(low[stop - 1]) and is_word(low[stop])
    begins = at > 0 and is_word(low[at - 1]) and is_word(low[at])
    return not (ends or begins) and (stop == len(low) or folded.starts[stop] >= folded.ends[stop - 1])


def _cuts(wholes: list[tuple[int, int]], first: int, start: int, stop: int) -> bool:
    """Whether the match overlaps something whole without holding all of it."""
    for begins, ends in wholes[first:]:
        if begins >= stop:
            return False
        if ends > start and not (start <= begins and ends <= stop):
            return True
    return False


def _capital(place: Place, before: list[str]) -> str:
    """What ``place`` becomes; a forced word in small letters has a capital where a sentence begins."""
    words = place.becomes
    first = words.split(maxsplit=1)[:1]
    if place.forced and first and first[0].islower() and _SENTENCE_BEFORE.search("".join(before[-3:])[-8:]):
        return words[0].upper() + words[1:]
    return words
