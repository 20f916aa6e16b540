"""HTML taken apart: what people read, and what passes as it is.

What it is: a scanner over tags. Block tags, comments, ``script``, ``style``, ``pre``, ``code`` and whatever says
``translate="no"`` pass untouched; inline tags stay inside their sentences, where the text processor protects them.
What it refuses to be: a browser. It repairs nothing; an element that is never closed passes to the end.
What it costs: one look at every character; each search ahead either finds its end or ends the scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_RAW = frozenset(["script", "style", "pre", "code", "textarea", "svg", "math", "noscript", "template"])
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,31})((?:[^<>\"']|\"[^\"]{0,1000}\"|'[^']{0,1000}'){0,2000})>")
_DECLARATION = re.compile(r"<[!?][^<>]{0,1000}>")
_KEPT = re.compile(r"\btranslate\s*=\s*[\"']?no\b|\bclass\s*=\s*[\"']?[^\"'>]*\bnotranslate\b", re.IGNORECASE)


def runs(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of ``text`` in order, and whether each is for people. Inline tags belong to the part they stand in."""
    begin = at = 0
    while (at := text.find("<", at)) >= 0:
        end = _untouched(text, at)
        if end is None:
            tag = _TAG.match(text, at)
            at = tag.end() if tag is not None else at + 1
            continue
        if at > begin:
            yield text[begin:at], True
        yield text[at:end], False
        begin = at = end
    if begin < len(text):
        yield text[begin:], True


def safe(text: str) -> str:
    """``text`` with the signs that a model invented outside of tags and references made harmless."""
    text = re.sub(r"<(?![A-Za-z/!?])", "&lt;", text)
    return re.sub(r"&(?!(?:[A-Za-z]{2,31}|#\d{1,7}|#x[0-9A-Fa-f]{1,6});)", "&amp;", text)


def _untouched(text: str, at: int) -> int | None:
    """Where what begins at ``at`` and passes untouched ends; None where it is text or an inline tag."""
    if text.startswith("<!--", at):
        end = text.find("-->", at + 4)
        return len(text) if end < 0 else end + 3
    if (declaration := _DECLARATION.match(text, at)) is not None:
        return declaration.end()
    tag = _TAG.match(text, at)
    if tag is None:
        return None
    name = tag[2].lower()
    opens = not tag[1] and not tag[3].endswith("/")
    if opens and (name in _RAW or _KEPT.search(tag[3])):
        return _closing(text, name, tag.end())
    return None if name in _INLINE else tag.end()


def _closing(text: str, name: str, at: int) -> int:
    """Behind the tag that closes element ``name``, whose content begins at ``at``."""
    depth = 1
    # from ``at`` on, not in a copy of the rest: a page may have thousands of such elements
    for tag in re.compile(rf"<(/?){re.escape(name)}\b[^<>]{{0,1000}}>", re.IGNORECASE).finditer(text, at):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return tag.end()
    return len(text)
