"""Loops in any script, and what only looks like one."""

from __future__ import annotations

import random

import pytest

from appliance.policy.repeats import LOOP, repetition

START = "आपके ऑर्डर की जानकारी नीचे दी गई है। "


@pytest.mark.parametrize(
    "piece",
    [
        "Your order is on the way. ",
        "आपका ऑर्डर रास्ते में है। ",
        "ᱟᱢᱟᱜ ᱚᱨᱰᱟᱨ ᱦᱚᱨᱨᱮ ᱢᱮᱱᱟᱜᱼᱟ ᱾ ",
        "ꯅꯉꯒꯤ ꯑꯣꯔꯗꯔ ꯂꯝꯕꯤꯗ ꯂꯩꯔꯤ ꯫ ",
        "ನಿಮ್ಮ ಆರ್ಡರ್ ",
        "آپ کا آرڈر راستے میں ہے۔ ",
        "हा",
        "0",
    ],
)
def test_a_loop_is_seen_wherever_it_is_cut(piece: str) -> None:
    loop = piece * (200 // len(piece) + 5)
    for cut in range(min(len(piece), 7)):
        assert repetition(START + loop[: len(loop) - cut]) >= LOOP


def test_a_loop_that_was_left_again_is_seen() -> None:
    loop = "we are sorry for the trouble you had with your order today and " * 12
    assert (
        repetition(f"Hello. {loop} That is all we can say about it. Goodbye, and thank you for your patience.") >= LOOP
    )


@pytest.mark.parametrize(
    "text",
    [
        "ha ha ha ha ha",
        "हा हा हा हा! बहुत मज़ेदार।",
        "ᱦᱟ ᱦᱟ ᱦᱟ ᱦᱟ",
        "no no no, please do not do that",
        "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n" + "-" * 120,
        "\n".join(
            f"{i}. Press the button and wait for {i * 7} seconds until light number {i} is on." for i in range(12)
        ),
        "```\n" + "x = x + 1\n" * 60 + "```\nThat is the whole program.",
        "",
    ],
)
def test_what_people_write_is_no_loop(text: str) -> None:
    assert repetition(text) < LOOP


def test_running_text_is_no_loop() -> None:
    rng = random.Random(1)
    words = [chr(0x0B95 + i % 20) + chr(0x0BBE + i % 3) + str(i) for i in range(300)]
    assert repetition(" ".join(rng.choice(words) for _ in range(400))) < 0.1
