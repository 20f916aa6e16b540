"""Regular expressions of strangers, matched in linear time: the ``pattern`` of a JSON schema that a caller sent.

What it is: ``compile_pattern`` and ``search`` by sets of states (Thompson 1968), so that ``(a+)+$`` takes as long as
``a+$``; every step counts against a budget that the caller shares with the rest of its work.
What it refuses to be: Python's ``re``, whose backtracking such a pattern turns into hours. It knows what JSON schemas
use (ECMA-262: classes, groups, alternation, counted repetition, anchors, word boundaries); look-around and
back-references raise ``Unsupported``, and the pattern is then not checked rather than guessed at.
What it costs: about 1 µs for a character and state; 70 µs to compile a pattern of 15 characters.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

_MOST_STATES = 2000
_MOST_ATOMS = 10_000
_MOST_REPEATS = 1000
_LONGEST = 1000
_DEEPEST = 50
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_DIGITS = frozenset("0123456789")
_SPACES = frozenset(" \t\n\r\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff") | {
    chr(point) for point in range(0x2000, 0x200B)
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "0": "\0"}

Test = Callable[[str], bool]


class Unsupported(Exception):
    """A pattern that is not checked here: broken, too large, or with look-around or back-references."""


class Spent(Exception):
    """The budget is used up."""


class Budget:
    """Steps that are left; ``spend`` raises Spent when there are none."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Take ``steps`` away."""
        self.left -= steps
        if self.left < 0:
            raise Spent


class _Node(Struct, gc=False):
    """One state: ``test`` a character, or ``assertion`` at a place, then go to every one of ``to``."""

    test: Test | None
    to: list[int]
    assertion: str = ""


class Pattern(Struct, frozen=True):
    """A compiled pattern. State 0 is accepting."""

    nodes: list[_Node]
    start: int


def search(pattern: Pattern, text: str, budget: Budget) -> bool:
    """Whether ``pattern`` matches anywhere in ``text``. Raises Spent."""
    nodes, live = pattern.nodes, set[int]()
    for place in range(len(text) + 1):
        live = _closed(nodes, {*live, pattern.start}, text, place, budget)
        if 0 in live:
            return True
        if place == len(text):
            return False
        character = text[place]
        step: set[int] = set()
        for state in live:
            test = nodes[state].test
            if test is not None and test(character):
                step.update(nodes[state].to)
        live = step
    return False


def _closed(nodes: list[_Node], states: set[int], text: str, place: int, budget: Budget) -> set[int]:
    """``states`` and all that is reached from them without a character."""
    found, waiting = set(states), list(states)
    while waiting:
        budget.spend()
        node = nodes[waiting.pop()]
        if node.test is not None or (node.assertion and not _holds(node.assertion, text, place)):
            continue
        fresh = [state for state in node.to if state not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _holds(assertion: str, text: str, place: int) -> bool:
    if assertion == "^":
        return place == 0
    if assertion == "$":
        return place == len(text)
    before = place > 0 and text[place - 1] in _WORD
    after = place < len(text) and text[place] in _WORD
    return (before != after) == (assertion == "b")


def compile_pattern(source: str) -> Pattern:
    """``source`` as a set of states. Raises Unsupported."""
    return _Compiler(source).compile()


class _Compiler:
    """Recursive descent; every part is built backwards, towards the state that follows it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._deep = 0
        self._atoms = 0
        self._nodes = [_Node(None, [])]

    def compile(self) -> Pattern:
        """The whole pattern."""
        if len(self._source) > _LONGEST:
            raise Unsupported("too long")
        start = self._alternatives(0)
        if self._at < len(self._source):
            raise Unsupported("a parenthesis too many")
        return Pattern(self._nodes, start)

    def _add(self, test: Test | None, to: list[int], assertion: str = "") -> int:
        if len(self._nodes) >= _MOST_STATES:
            raise Unsupported("too large")
        self._nodes.append(_Node(test, to, assertion))
        return len(self._nodes) - 1

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise Unsupported("it ends too early")
        self._at += 1
        return character

    def _alternatives(self, after: int) -> int:
        self._deep += 1
        if self._deep > _DEEPEST:
            raise Unsupported("too deep")
        starts = [self._sequence(after)]
        while self._peek() == "|":
            self._at += 1
            starts.append(self._sequence(after))
        self._deep -= 1
        return starts[0] if len(starts) == 1 else self._add(None, starts)

    def _sequence(self, after: int) -> int:
        """Parts are read forwards and built backwards, so their places are kept and read once more."""
        places = []
        while self._peek() not in ("", "|", ")"):
            places.append(self._at)
            self._part(0, build=False)
        end = self._at
        for place in reversed(places):
            self._at = place
            after = self._part(after)
        self._at = end
        return after

    def _part(self, after: int, build: bool = True) -> int:
        """An atom with its repetition."""
        begin = self._at
        if not build:
            self._skip_atom()
            self._repetition()
            return after
        self._skip_atom()
        least, most = self._repetition()
        end = self._at

        def atom(to: int) -> int:
            self._at = begin
            built = self._atom(to)
            self._at = end
            return built

        if most is None:
            loop = self._add(None, [])
            self._nodes[loop].to = [atom(loop), after]
            after = loop
        else:
            exit_ = after
            for _ in range(most - least):
                after = self._add(None, [atom(after), exit_])
        for _ in range(least):
            after = atom(after)
        return after

    def _repetition(self) -> tuple[int, int | None]:
        sign = self._peek()
        least, most = 1, 1 if sign not in ("*", "+") else None
        if sign in ("*", "+", "?"):
            self._at += 1
            least = 1 if sign == "+" else 0
        elif sign == "{":
            counted = self._counted()
            if counted is None:
                return 1, 1
            least, most = counted
        if self._peek() == "?":  # lazy or not, the same texts match
            self._at += 1
        if least > _MOST_REPEATS or (most or 0) > _MOST_REPEATS or (most is not None and most < least):
            raise Unsupported("its repetition is out of range")
        return least, most

    def _counted(self) -> tuple[int, int | None] | None:
        end = self._source.find("}", self._at)
        inside = self._source[self._at + 1 : end] if end > 0 else ""
        low, comma, high = inside.partition(",")
        if not (low.isascii() and low.isdigit()) or not (high == "" or (high.isascii() and high.isdigit())):
            return None  # a brace that is a character
        if len(low) > 6 or len(high) > 6:
            raise Unsupported("its repetition is out of range")
        self._at = end + 1
        return int(low), int(high) if high else None if comma else int(low)

    def _skip_atom(self) -> None:
        """Move past one atom without building it."""
        character = self._take()
        if character == "\\":
            if self._peek() in ("b", "B"):
                self._take()
            else:
                self._escaped()
        elif character == "[":
            self._class()
        elif character == "(":
            depth = 1
            while depth:
                inner = self._take()
                if inner == "\\":
                    self._take()
                elif inner == "[":
                    self._class()
                else:
                    depth += (inner == "(") - (inner == ")")

    def _atom(self, after: int) -> int:
        self._atoms += 1
        if self._atoms > _MOST_ATOMS:  # groups of nothing make no state, however often they are repeated
            raise Unsupported("too large")
        character = self._take()
        if character == "(":
            return self._group(after)
        if character == "[":
            return self._add(self._class(), [after])
        if character in ("^", "$"):
            return self._add(None, [after], character)
        if character == ".":
            return self._add(lambda c: c not in "\n\r\u2028\u2029", [after])
        if character in ("*", "+", "?"):
            raise Unsupported("nothing to repeat")
        if character != "\\":
            return self._add(character.__eq__, [after])
        if self._peek() in ("b", "B"):
            return self._add(None, [after], self._take())
        return self._add(self._escape(), [after])

    def _group(self, after: int) -> int:
        if self._peek() == "?":
            self._at += 1
            if self._take() != ":":
                raise Unsupported("look-around and named groups")
        start = self._alternatives(after)
        if self._take() != ")":
            raise Unsupported("a parenthesis too few")
        return start

    def _escape(self) -> Test:
        found = self._escaped()
        return found.__eq__ if isinstance(found, str) else found

    def _escaped(self) -> str | Test:
        character = self._take()
        if character in ("d", "D", "w", "W", "s", "S"):
            held = {"d": _DIGITS, "w": _WORD, "s": _SPACES}[character.lower()]
            return held.__contains__ if character.islower() else lambda c: c not in held
        if character in ("x", "u"):
            return self._hexadecimal(2 if character == "x" else 4)
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character.isascii() and character.isalnum():
            raise Unsupported(f"\\{character}")
        return character

    def _hexadecimal(self, size: int) -> str:
        digits = self._source[self._at : self._at + size]
        try:
            point = int(digits, 16)
        except ValueError:
            raise Unsupported("a broken escape") from None
        self._at += size
        return chr(point)

    def _class(self) -> Test:
        """What follows an opening bracket, with the closing one."""
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[str, str]] = []
        tests: list[Test] = []
        while (character := self._take()) != "]":
            first = self._escaped_in_class() if character == "\\" else character
            if not isinstance(first, str):
                tests.append(first)
                continue
            last: str | Test = first
            if self._peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("", "]"):
                self._at += 1
                last = self._take()
                if last == "\\":
                    last = self._escaped_in_class()
            if not isinstance(last, str) or last < first:
                raise Unsupported("a broken range")
            ranges.append((first, last))

        def inside(c: str) -> bool:
            return any(low <= c <= high for low, high in ranges) or any(test(c) for test in tests)

        return (lambda c: not inside(c)) if negated else inside

    def _escaped_in_class(self) -> str | Test:
        if self._peek() == "b":
            self._at += 1
            return "\b"
        return self._escaped()
