"""Who transcribes an upload: the choice among the speech models, before, during and after the request.

What it is: one ``SpeechRoute`` a request. It makes the ``Work`` of the pipeline: straight to a model where the language
is given; through a detection first where it is not and several models could hear it; and once more on another model
where a transcript came in the wrong script.
What it refuses to be: a judge of words. Only the script is looked at.
What it costs: nothing where the language is given. A detection decodes the upload once more and encodes one window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from appliance.api.params_audio import TranscriptionParams
from appliance.api.service import Service, allowed
from appliance.errors import BadRequest, EngineFailed
from appliance.pipeline import Ask, Work
from appliance.policy.speech import Speaker, detectable, not_heard, ranked, speaker, wrong_script
from appliance.types import End, Key

TRANSCRIBE, DETECT = "/v1/transcribe", "/v1/detect"


class _Detected(Struct):
    language: str | None
    language_probability: float


def speakers_of(service: Service) -> list[Speaker]:
    """Every speech model that is served or about to be, in the order of the settings."""
    found: dict[str, Speaker] = {}
    for name, engine in service.settings.engines.items():
        if engine.task != "transcribe":
            continue
        entry = service.registry.entries.get(name)
        state = entry.state if entry is not None else None
        models = state.models if state is not None else (engine.model, *engine.models)
        ready = state is not None and state.phase == "ready"
        tags, preferred = (state.languages, state.preferred_for) if state is not None else ((), ())
        for model in filter(None, models):
            if model not in found or (ready and not found[model].ready):
                found[model] = speaker(model, engine.kind, tags, preferred, ready)
    return list(found.values())


class SpeechRoute:
    """``asked``: the name the caller used. An alias is open to every model its key may use; a model's name is not."""

    def __init__(
        self,
        service: Service,
        key: Key,
        asked: str,
        model: str,
        params: TranscriptionParams,
        deadline_s: float | None = None,
        rank: Literal["live", "interactive", "bulk"] = "interactive",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._speech = service.settings.speech
        self._params = params
        self._more: dict[str, Any] = {} if rank == "interactive" else {"rank": rank}
        self._progress = progress
        if progress is not None:
            self._more["progress"] = True
        self._deadline_s = deadline_s or service.settings.server.request_deadline_s
        found = speakers_of(service)
        if asked in service.settings.aliases:
            usable = [s for s in found if s.model == model or allowed(key, asked, s.model)]
            # the alias's own model goes first among equals
            self.speakers = sorted(usable, key=lambda s: s.model != model)
        else:
            self.speakers = [s for s in found if s.model == model]
        self._elsewhere = [s for s in found if s not in self.speakers and allowed(key, s.model, s.model)]
        self._detected: _Detected | None = None
        self._tried: set[str] = set()

    @property
    def models(self) -> list[str]:
        """Every model that may come to answer."""
        return [s.model for s in self.speakers]

    def work(self, audio: bytes) -> Work:
        """What the pipeline is to do. Raises BadRequest."""
        language = self._params.language or (self._params.languages[0] if len(self._params.languages) == 1 else None)
        if language is not None:
            return self._judged(self._straight(audio, self._best(language).model, language))
        detectors = sorted((s for s in self.speakers if s.detects), key=lambda s: not s.ready)
        self._check_hints(detectors)
        work = self._straight(audio, detectors[0].model, None)
        teller = next((s for s in detectors if s.tells and s.ready), None)
        if len(self.speakers) > 1 and teller is not None:

            async def prepare(ask: Ask) -> Work:
                header = self._header(None, stream=False, progress=False)
                return self._judged(self._after(work, await ask(teller.model, DETECT, header, audio)))

            return replace(work, model=teller.model, prepare=prepare)
        return self._judged(work)

    def detection(self, audio: bytes) -> Work:
        """The work of a request that only asks what is spoken. Raises BadRequest."""
        tellers = sorted((s for s in self.speakers if s.tells), key=lambda s: not s.ready)
        if not tellers:
            raise _no_detector()
        self._check_hints(tellers)
        header = self._header(None)
        return replace(self._straight(audio, tellers[0].model, None), path=DETECT, header=header)

    def _header(self, language: str | None, **changes: Any) -> str:
        return self._params.host_header(self._deadline_s, language=language, **{**self._more, **changes})

    def _check_hints(self, detectors: Sequence[Speaker]) -> None:
        if not detectors:
            raise _no_detector()
        if deaf := [code for code in self._params.languages if not detectable(code, detectors)]:
            raise BadRequest(
                f"'languages' names {', '.join(deaf)}, which no model here can tell from others by ear; where it is"
                f" known to be spoken, send language={deaf[0]}",
                param="languages",
            )

    def _best(self, language: str) -> Speaker:
        able = ranked(language, self.speakers, self._speech.prefer)
        if not able:
            raise self.deaf(language)
        return able[0]

    def able(self, language: str) -> list[str]:
        """The models that hear ``language``, best first."""
        return [s.model for s in ranked(language, self.speakers, self._speech.prefer)]

    def deaf(self, language: str) -> BadRequest:
        """What a caller is told whose ``language`` none of them hears."""
        others = ranked(language, self._elsewhere, self._speech.prefer)
        return not_heard(language, self.speakers, [s.model for s in others])

    def _straight(self, audio: bytes, model: str, language: str | None) -> Work:
        self._tried.add(model)
        return Work(
            path=TRANSCRIBE,
            model=model,
            stream=self._params.stream,
            deadline_s=self._deadline_s,
            body_for=lambda _model, _salt: audio,
            header=self._header(language),
            progress=self._progress,
        )

    def _after(self, work: Work, answer: bytes) -> Work:
        """The work once the language is known; where nobody speaks, the detector's own (it will find nothing)."""
        try:
            found = msgspec.json.decode(answer, type=_Detected)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise EngineFailed("the speech engine's detection cannot be read") from None
        if found.language is None:
            return work
        self._detected = found
        self._tried.clear()
        model = self._best(found.language).model
        return replace(
            work,
            model=model,
            header=self._header(found.language),
            prepare=None,
        )

    def _judged(self, work: Work) -> Work:
        """With the judge, where a whole answer can still be taken back."""
        return work if work.stream else replace(work, judge=lambda end: self._judge(work, end))

    def with_detection(self, result: dict[str, Any]) -> dict[str, Any]:
        """An engine's ``result``, marked where the language was found and not given, with how sure that was."""
        if self._params.language is not None:
            return result
        found = {**result, "detected": True}
        if self._detected is not None:
            found["language_probability"] = self._detected.language_probability
        return found

    def _judge(self, work: Work, end: End) -> tuple[End, Work | None]:
        result = self.with_detection(msgspec.json.decode(end.body))
        language = result.get("language")
        other: Work | None = None
        if self._speech.script_check and wrong_script(str(result.get("text", "")), language):
            result["warnings"] = [
                {
                    "code": "wrong_script",
                    "message": f"most of this transcript is not in the script of {language!r}; read it with care",
                }
            ]
            other = self._other(work, str(language))
        return replace(end, body=msgspec.json.encode(result)), other

    def _other(self, work: Work, language: str) -> Work | None:
        """The same on the next best model that has not been tried."""
        for one in ranked(language, self.speakers, self._speech.prefer):
            if one.model not in self._tried and one.ready:
                self._tried.add(one.model)
                return replace(
                    work, model=one.model, header=self._header(language), judge=lambda end: self._judge(work, end)
                )
        return None


def _no_detector() -> BadRequest:
    return BadRequest(
        "no model here can tell languages apart; give 'language', or install a Whisper model",
        code="language_required",
        param="language",
    )
