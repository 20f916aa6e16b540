"""From samples to a transcript, with a stand-in model."""

from __future__ import annotations

import asyncio
import math

import pytest
from hosts.whisper_standin import StandIn, decode, sound, spoken, stamp, transcriber

from appliance.errors import BadRequest, DeadlineExceeded
from appliance.hosts.whisper_wire import Params


async def hear(speech, samples, params=None, *, deadline=math.inf, in_flight=4):
    texts: list[str] = []
    with transcriber(speech, in_flight=in_flight) as (job, batcher):
        try:
            result = await job.transcribe(
                samples, params or Params(language="en"), deadline=deadline, on_text=texts.append
            )
        finally:
            await batcher.close()
    return result, texts


async def test_a_short_clip_takes_one_short_window():
    speech = StandIn()
    result, texts = await hear(speech, sound((3.0, True)))
    assert result.text == "3.0s"
    assert texts == ["3.0s"]
    assert [w.features.shape[1] for w in speech.windows] == [1000]
    assert (result.language, result.language_probability, result.duration_s) == ("en", 1.0, 3.0)
    (segment,) = result.segments
    assert (segment.id, segment.start, segment.end, segment.temperature) == (0, 0.0, 3.0, 0.0)
    assert result.words is None


async def test_silence_is_an_empty_text_and_the_model_is_not_asked():
    speech = StandIn()
    result, texts = await hear(speech, sound((5.0, False)))
    assert (result.text, result.segments, texts) == ("", [], [])
    assert result.duration_s == 5.0
    assert speech.windows == []


async def test_silence_has_the_language_that_was_given_and_no_other():
    given, _ = await hear(StandIn(), sound((2.0, False)), Params(language="hi"))
    assert (given.language, given.language_probability) == ("hi", 1.0)
    unknown, _ = await hear(StandIn(), sound((2.0, False)), Params())
    assert (unknown.language, unknown.language_probability) == (None, 0.0)


async def test_what_the_model_calls_silence_is_left_out():
    speech = StandIn(lambda w: decode(w, spoken(" you", 0, 1), avg_logprob=-1.4, no_speech_prob=0.9))
    result, _ = await hear(speech, sound((2.0, True)))
    assert result.text == ""
    assert len(speech.windows) == 1


async def test_an_implausible_text_is_decoded_again_at_30_s():
    def script(window):
        if window.features.shape[1] < 3000:
            return decode(window, spoken(" wrong wrong", 0, 1), compression_ratio=5.0)
        return decode(window, spoken(" right", 0, 1))

    speech = StandIn(script)
    result, _ = await hear(speech, sound((2.0, True)))
    assert result.text == "right"
    assert [(w.features.shape[1], w.temperature) for w in speech.windows] == [(1000, 0.0), (3000, 0.0)]


async def test_the_ladder_is_climbed_until_a_text_can_be_believed():
    speech = StandIn(lambda w: decode(w, spoken(" x", 0, 1), avg_logprob=-0.5 if w.temperature >= 0.4 else -2.0))
    result, _ = await hear(speech, sound((2.0, True)))
    steps = [(w.features.shape[1], w.temperature) for w in speech.windows]
    assert steps == [(1000, 0.0), (3000, 0.0), (3000, 0.2), (3000, 0.4)]
    assert result.segments[0].temperature == 0.4


async def test_when_no_rung_is_believable_the_likeliest_counts():
    logprobs = {0.0: -1.9, 0.2: -1.5, 0.4: -1.2, 0.6: -1.3, 0.8: -1.6, 1.0: -2.0}
    speech = StandIn(lambda w: decode(w, spoken(f" t{w.temperature}", 0, 1), avg_logprob=logprobs[w.temperature]))
    result, _ = await hear(speech, sound((2.0, True)))
    assert result.text == "t0.4"
    assert len(speech.windows) == 7


async def test_a_temperature_of_the_callers_own_is_used_alone():
    speech = StandIn(lambda w: decode(w, spoken(" x", 0, 1), avg_logprob=-2.0))
    await hear(speech, sound((2.0, True)), Params(language="en", temperature=0.7))
    assert {w.temperature for w in speech.windows} == {0.7}


async def test_the_encoder_state_is_kept_on_the_ladder_but_not_across_lengths():
    def script(window):
        if window.encoded is None:
            window.encoded = window.features[:1]
            fresh.append(window.features.shape[1])
        return decode(window, spoken(" x", 0, 1), avg_logprob=-2.0)

    fresh: list[int] = []
    await hear(StandIn(script), sound((2.0, True)))
    assert fresh == [1000, 3000]


async def test_long_audio_is_several_windows_in_order_with_shifted_times():
    samples = sound(*[(9.0, True), (6.0, False)] * 3)
    result, texts = await hear(StandIn(), samples)
    assert len(result.segments) == 3
    assert [s.id for s in result.segments] == [0, 1, 2]
    assert result.segments[1].start == pytest.approx(14.6, abs=0.1)
    assert result.segments[2].start == pytest.approx(29.6, abs=0.1)
    assert "".join(texts) == result.text
    assert len(texts) == 3


async def test_at_most_in_flight_windows_of_one_upload_wait_at_a_time():
    speech = StandIn()
    samples = sound(*[(9.0, True), (6.0, False)] * 9)
    await hear(speech, samples, in_flight=2)
    assert len(speech.windows) == 9
    assert max(speech.batches) <= 2


async def test_an_unfinished_window_is_continued_where_it_stopped():
    def script(window):
        if window.length_s > 5:
            return decode(window, (stamp(0), ord(" "), ord("a"), stamp(4), stamp(4), ord("z")))
        return decode(window, spoken(" b", 0, window.length_s))

    result, _ = await hear(StandIn(script), sound((7.0, True)))
    assert result.text == "a b"
    assert [(s.start, s.end) for s in result.segments] == [(0.0, 4.0), (4.0, 7.0)]
    assert [s.seek for s in result.segments] == [0, 400]


async def test_a_model_that_never_advances_does_not_loop():
    speech = StandIn(lambda w: decode(w, (stamp(0), stamp(0), ord("z"))))
    result, _ = await hear(speech, sound((3.0, True)))
    assert result.text == ""
    assert len(speech.windows) == 1


async def test_the_first_window_settles_the_language_of_the_others():
    speech = StandIn()
    result, _ = await hear(speech, sound(*[(9.0, True), (6.0, False)] * 3), Params())
    assert [w.language for w in speech.windows] == [None, "hi", "hi"]
    assert (result.language, result.language_probability) == ("hi", 0.75)


async def test_a_language_is_taken_in_any_case_and_an_unknown_one_lists_the_known():
    speech = StandIn()
    result, _ = await hear(speech, sound((1.0, True)), Params(language="HI"))
    assert result.language == "hi"
    with pytest.raises(BadRequest, match="en, hi, ta") as refused:
        await hear(speech, sound((1.0, True)), Params(language="or"))
    assert (refused.value.code, refused.value.param) == ("unknown_language", "language")


async def test_the_prompt_goes_with_every_window():
    speech = StandIn()
    await hear(speech, sound(*[(9.0, True), (6.0, False)] * 2), Params(language="en", prompt="ab"))
    assert [w.prompt for w in speech.windows] == [(97, 98)] * 2


async def test_words_are_on_the_time_line_of_the_upload():
    samples = sound((9.0, True), (6.0, False), (3.0, True))
    result, _ = await hear(StandIn(), samples, Params(language="en", word_timestamps=True))
    assert result.words is not None
    assert [w.word for w in result.words] == ["9.4s", "3.4s"]
    assert result.words[1].start == pytest.approx(14.6, abs=0.1)


async def test_a_passed_deadline_ends_the_job_without_the_model():
    speech = StandIn()
    with pytest.raises(DeadlineExceeded):
        await hear(speech, sound((3.0, True)), deadline=0.0)
    assert speech.windows == []


async def test_a_failing_window_cancels_its_siblings_and_is_reported():
    def script(window):
        return RuntimeError("broken kernel")

    speech = StandIn(script)
    with pytest.raises(RuntimeError, match="broken kernel"):
        await hear(speech, sound(*[(9.0, True), (6.0, False)] * 8), in_flight=2)
    assert len(speech.windows) <= 3


async def test_cancelling_the_job_takes_its_windows_out_of_the_queue():
    speech = StandIn()
    speech.go.clear()
    with transcriber(speech, in_flight=8) as (job, batcher):
        samples = sound(*[(9.0, True), (6.0, False)] * 12)
        task = asyncio.ensure_future(
            job.transcribe(samples, Params(language="en"), deadline=math.inf, on_text=lambda _: None)
        )
        assert await asyncio.to_thread(speech.called.acquire, True, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert batcher.depth == 0
        assert all(window.left for window in speech.windows)  # the batch that runs may stop at them
        speech.go.set()
        await batcher.close()
    assert len(speech.batches) == 1
