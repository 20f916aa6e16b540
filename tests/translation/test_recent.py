from __future__ import annotations

from appliance.translation.recent import Recent

EN, HI = "eng_Latn", "hin_Deva"


async def test_scopes_variants_and_languages_never_meet() -> None:
    recent = Recent()
    acme = recent.of("acme")
    await acme.put([("Hello", "नमस्ते")], EN, HI)
    assert await acme.get(["Hello", " Hello\n", "hello"], EN, HI) == ["नमस्ते", " नमस्ते\n", None]
    assert await recent.of("acme").get(["Hello"], EN, HI) == ["नमस्ते"]
    for view in (recent.of("bodega"), recent.of("acme", "v2"), recent.of("acm", "e")):
        assert await view.get(["Hello"], EN, HI) == [None]
    assert await acme.get(["Hello"], EN, "tam_Taml") == [None]


async def test_what_was_not_used_for_longest_goes() -> None:
    recent = Recent(most_bytes=3 * (200 + 40))
    view = recent.of("acme")
    for n in range(3):
        await view.put([(f"text {n}", "x" * 10)], EN, HI)
    await view.get(["text 0"], EN, HI)
    await view.put([("text 0", "y" * 10), ("text 3", "x" * 10)], EN, HI)
    assert await view.get([f"text {n}" for n in range(4)], EN, HI) == ["y" * 10, None, "x" * 10, "x" * 10]
    await view.put([("huge", "x" * 10_000)], EN, HI)
    assert await view.get(["huge", "text 3"], EN, HI) == [None, None]
