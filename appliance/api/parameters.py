"""Every parameter of every endpoint, and what becomes of it: the allow-list as data.

What it is: one row a parameter with its use and one phrase. For an accepted one the phrase says what it must
be, for a refused one why. Error texts, the documentation and the tests all read these rows; the types
themselves live beside the decoders (``params_chat.py`` and its siblings), and a test holds the two together.
What it refuses to be: a pass-through. What is not in here does not reach an engine, because vLLM accepts
unknown names silently and has names that reach into its scheduler, cache and samplers.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Use(StrEnum):
    """What happens to a parameter.

    ``FORWARDED``: the engine gets it. ``MAPPED``: the appliance reads or renames it, and the engine does not get it
    as it came. ``IGNORED``: a hint that cannot change what an answer says, checked and dropped. ``REFUSED``: 400
    with the reason, except for ``null``, which every parameter takes as "not given".
    """

    FORWARDED = "forwarded"
    MAPPED = "mapped"
    IGNORED = "ignored"
    REFUSED = "refused"


class Rule(NamedTuple):
    """One parameter: its use, and what it must be (accepted) or why not (refused)."""

    use: Use
    text: str


class Parameters:
    """The rules of one endpoint.

    ``nested`` has phrases for places inside a parameter, written without indexes (``messages.role``).
    """

    def __init__(self, rules: Mapping[str, Rule], nested: Mapping[str, str], hints: Mapping[str, str]) -> None:
        self.rules = rules
        self._nested = nested
        self._hints = hints

    def expects(self, place: str) -> str:
        """What ``place`` must be, or why it is refused; empty when no phrase exists."""
        rule = self.rules.get(place)
        return rule.text if rule is not None else self._nested.get(place, "")

    def use(self, name: str) -> Use | None:
        """What happens to parameter ``name``; None for one that is not known."""
        rule = self.rules.get(name)
        return None if rule is None else rule.use

    def hint(self, name: str) -> str | None:
        """What to do instead of sending ``name``, for names that clients are known to send."""
        return self._hints.get(name)

    def dropped(self) -> list[str]:
        """Names that are checked and then not sent on."""
        return [name for name, rule in self.rules.items() if rule.use is Use.IGNORED]

    def accepted(self) -> list[str]:
        """Names a caller may use, in the order of the table."""
        return [name for name, rule in self.rules.items() if rule.use is not Use.REFUSED]


_F, _M, _I, _R = Use.FORWARDED, Use.MAPPED, Use.IGNORED, Use.REFUSED

_SAMPLING = {
    "model": Rule(_M, "the name of a model from /v1/models, at most 256 characters"),
    "stream": Rule(_F, "true or false"),
    "stream_options": Rule(_M, 'an object such as {"include_usage": true}, together with "stream": true'),
    "max_tokens": Rule(_F, "an integer of at least 1"),
    "temperature": Rule(_F, "a number from 0 to 2"),
    "top_p": Rule(_F, "a number from 0 to 1"),
    "n": Rule(_F, "an integer from 1 to 8"),
    "seed": Rule(_F, "an integer of 64 bits"),
    "stop": Rule(_F, "a string or up to 4 strings, each of 1 to 256 characters"),
    "presence_penalty": Rule(_F, "a number from -2 to 2"),
    "frequency_penalty": Rule(_F, "a number from -2 to 2"),
    "logit_bias": Rule(_F, "an object of up to 1024 token ids, each with a number from -100 to 100"),
    "user": Rule(_M, "a string of at most 512 characters"),
    # vLLM's samplers that clients of open models send through extra_body
    "top_k": Rule(_F, "an integer: -1 or 0 for off, or how many tokens to choose from"),
    "min_p": Rule(_F, "a number from 0 to 1"),
    "repetition_penalty": Rule(_F, "a number above 0 and at most 10"),
}

_NESTED_STREAM = {
    "stream_options.include_usage": "true or false",
    "stream_options.include_obfuscation": "true or false",
}

_INTERNAL = "it belongs to the engine's internals and is not open to callers"
_GRAMMAR = 'use "response_format" with a json_schema instead'
_HINTS = {
    "add_generation_prompt": _INTERNAL,
    "add_special_tokens": _INTERNAL,
    "cache_salt": "the appliance separates tenants' caches itself",
    "chat_template": _INTERNAL,
    "continue_final_message": _INTERNAL,
    "documents": 'put them into "messages"',
    "ec_transfer_params": _INTERNAL,
    "guided_choice": _GRAMMAR,
    "guided_grammar": _GRAMMAR,
    "guided_json": _GRAMMAR,
    "guided_regex": _GRAMMAR,
    "input": 'use "messages", or "prompt" on /v1/completions',
    "kv_transfer_params": _INTERNAL,
    "max_new_tokens": 'did you mean "max_tokens"?',
    "max_output_tokens": 'did you mean "max_tokens"?',
    "media_io_kwargs": _INTERNAL,
    "mm_processor_kwargs": _INTERNAL,
    "priority": _INTERNAL,
    "prompt_logprobs": _INTERNAL,
    "request_id": _INTERNAL,
    "stop_sequences": "did you mean 'stop'?",
    "structured_outputs": _GRAMMAR,
    "use_beam_search": _INTERNAL,
    "vllm_xargs": _INTERNAL,
}

# names that clients are known to send and nothing here takes
HINTED = tuple(_HINTS)

CHAT = Parameters(
    {
        "messages": Rule(_F, "an array of 1 to 4096 messages"),
        **_SAMPLING,
        "max_completion_tokens": Rule(_M, "an integer of at least 1; the engine gets it as max_tokens"),
        "logprobs": Rule(_F, "true or false"),
        "top_logprobs": Rule(_F, 'an integer from 0 to 20, together with "logprobs": true'),
        "response_format": Rule(_F, "an object whose type is text, json_object or json_schema"),
        "tools": Rule(_F, "an array of 1 to 128 function tools"),
        "tool_choice": Rule(_F, '"none", "auto", "required" or {"type": "function", "function": {"name": …}}'),
        "parallel_tool_calls": Rule(_F, "true or false"),
        "reasoning_effort": Rule(_F, "one of none, minimal, low, medium, high, xhigh, max"),
        "chat_template_kwargs": Rule(_F, "an object of up to 16 strings, numbers or booleans"),
        "metadata": Rule(_M, "an object of up to 16 strings of at most 512 characters, names of at most 64"),
        "conversation": Rule(_M, 'the conversation\'s id, 1 to 128 characters, or {"id": …}'),
        "previous_response_id": Rule(_M, "the id of an earlier answer of the same conversation"),
        # Hints of hosted services. Dropping them changes no answer.
        "modalities": Rule(_I, '["text"]; audio output is not served'),
        "prediction": Rule(_I, "an object; predicted text only ever saves time"),
        "prompt_cache_key": Rule(_I, "a string of at most 512 characters; prefixes are cached without being asked"),
        "prompt_cache_options": Rule(_I, "an object; prefixes are cached without being asked"),
        "prompt_cache_retention": Rule(_I, "a string; prefixes are cached without being asked"),
        "safety_identifier": Rule(_M, "a string of at most 512 characters; taken as 'user' where that is absent"),
        "service_tier": Rule(_I, "one of auto, default, flex, scale, priority, fast; there is one tier"),
        "store": Rule(_I, "true or false; nothing is stored on request"),
        "verbosity": Rule(_I, "one of low, medium, high; open models have no such control"),
        # Dropping these would give an answer that lacks what was asked for.
        "audio": Rule(_R, "audio output is not served"),
        "function_call": Rule(_R, "it is the deprecated form; use 'tool_choice'"),
        "functions": Rule(_R, "it is the deprecated form; use 'tools'"),
        "moderation": Rule(_R, "no moderation model is installed, and an unmoderated answer must not look moderated"),
        "web_search_options": Rule(_R, "models here do not reach the web"),
    },
    {
        **_NESTED_STREAM,
        "messages.role": "one of system, developer, user, assistant, tool (the old role 'function' is 'tool' now)",
        "messages.content": "a string or an array of content parts",
        "messages.content.type": "text, or for users also image_url and input_audio (files are not served)",
        "messages.content.image_url": 'an object such as {"url": "data:image/png;base64,…"}',
        "messages.content.image_url.detail": "one of auto, low, high, original",
        "messages.content.input_audio": 'an object such as {"data": "<base64>", "format": "wav"}',
        "messages.content.input_audio.format": "wav or mp3",
        "messages.name": "a string of 1 to 256 characters",
        "messages.tool_call_id": "the id of the tool call this message answers, at most 256 characters",
        "messages.tool_calls.type": '"function"',
        "messages.tool_calls.function.arguments": "a string of JSON",
        "messages.function_call": "left out; it is the deprecated form of 'tool_calls'",
        "messages.audio": "left out; audio output is not served",
        "tools.type": '"function"; custom tools are not supported',
        "tools.function.name": "1 to 64 of the characters a-z, A-Z, 0-9, _ and -",
        "tools.function.parameters": "a JSON schema of type object",
        "tool_choice.type": '"function"; allowed_tools and custom tools are not supported',
        "response_format.type": "text, json_object or json_schema",
        "response_format.json_schema.name": "1 to 64 of the characters a-z, A-Z, 0-9, _ and -",
        "response_format.json_schema.schema": "a JSON schema",
    },
    {
        **_HINTS,
        "best_of": "did you mean 'n'?",
        "echo": "it exists on /v1/completions only",
        "prompt": 'use "messages", or send it to /v1/completions',
        "suffix": "it exists on /v1/completions only",
    },
)

COMPLETIONS = Parameters(
    {
        "prompt": Rule(_F, "a string, up to 128 strings, token ids, or up to 128 arrays of token ids"),
        **_SAMPLING,
        "max_tokens": Rule(_F, 'an integer of at least 1, or 0 together with "echo": true'),
        "echo": Rule(_F, "true or false"),
        "logprobs": Rule(_F, "an integer from 0 to 5"),
        "best_of": Rule(_I, "equal to 'n'; choosing among more candidates is not supported"),
        "suffix": Rule(_R, "the engine does not fill in the middle"),
    },
    _NESTED_STREAM,
    {**_HINTS, "messages": 'use "prompt", or send them to /v1/chat/completions'},
)

TRANSCRIPTION = Parameters(
    {
        "file": Rule(_F, "the audio file, as a file part of the form"),
        "model": Rule(_M, "the name of a speech-to-text model from /v1/models"),
        "language": Rule(_M, "a language code such as hi, or-IN or en, or auto to have it detected"),
        "prompt": Rule(_F, "at most 2000 characters of text that might precede the audio"),
        "temperature": Rule(_F, "a number from 0 to 1"),
        "response_format": Rule(_M, "one of json, text, srt, vtt, verbose_json, or diarized_json for stereo"),
        "timestamp_granularities": Rule(_M, 'word or segment, together with "response_format" verbose_json'),
        "stream": Rule(_M, "true or false; true needs response_format json or text"),
        "chunking_strategy": Rule(_I, "auto; long audio is always cut at pauses"),
        "include": Rule(_R, "log probabilities of tokens are not available; verbose_json has them a segment"),
        "keywords": Rule(_M, "at most 64 words or names to expect, each of at most 64 characters"),
        "mode": Rule(_M, "transcribe, verbatim (numbers in words), translit (in Latin letters), codemix or translate"),
        "target": Rule(_M, "with mode translate: the language to translate into; English where absent"),
        "input_audio_codec": Rule(_M, "what raw samples are: pcm_s16le, pcm_s16be, pcm_l16, mulaw or alaw"),
        "sample_rate": Rule(_M, "of raw samples: an integer from 4000 to 192000"),
        "channels": Rule(_M, "of raw samples: 1 or 2"),
        "known_speaker_names": Rule(_M, "with diarized_json: at most 2 names, for the left and the right channel"),
        "known_speaker_references": Rule(_R, "speakers are told apart by channel, not by voice"),
        "languages": Rule(_M, "at most 8 language codes; where 'language' is absent, one of them is spoken"),
    },
    {},
    dict.fromkeys(("url", "file_url", "audio_url"), "audio comes in the request; this appliance fetches nothing"),
)
