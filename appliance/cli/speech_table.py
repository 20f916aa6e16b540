"""``make speech-doc``: docs/speech.md, written from the catalogue, the policy and the committed results.

What it is: one row a language: which engine hears it first, which checkpoint, what was measured here and on what audio,
and what others published. A test holds the committed file to this.
What it refuses to be: a claim. Where nothing was measured the row says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import appliance
from appliance.cli.speech_results import measured
from appliance.languages import ENGLISH, LANGUAGES, Language, display_name
from appliance.policy.speech import CONFORMER, ranked, speaker
from appliance_models import catalogue

_ROOT = Path(appliance.__file__).resolve().parent.parent
_WHISPER = "whisper-base"
_GENERATED = "reads known text out of known tones (generated graphs); no speech"
# Facts of the catalogue's entry, by language: other people's figures, with whose they are.
_PUBLISHED = {
    "or": "Whisper large-v3 answers in Latin letters for 83 % of samples (a third party's claim)",
    "ml": "Whisper large-v3 answers in Latin letters for 75 % of samples (a third party's claim)",
}

_HEAD = """\
# Speech to text

Written by `make speech-doc` from the catalogue, the routing policy and `benchmarks/results`; do not edit.

## Languages

With `{whisper}` and `{conformer}` both installed. "First" is who gets an upload whose
language was given or detected; "stands in" takes it while the first is not ready, and where the first's transcript came
in another script. Without an engine of kind `conformer`, the 8 languages for which Whisper has no token are refused
with the command that installs one; Whisper never guesses them.

"""

_TAIL = """
No recording of human speech in an Indian language is in this repository, IndicConformer's checkpoint is gated and was
never run here, and no published word error rate of it could be checked here. So this table holds no accuracy
figure for the 22 languages. What was measured is the code around the model: on graphs of the published names, shapes
and layout (`tests/hosts/conformer_graphs.py`), features and tones that spell known text come back as that text in every
language, by CTC greedy, CTC beam and RNNT, alone and in mixed batches.

## Measured here

By `make bench-hearing` (`ARGS="--part …"`), newest run of each part:

{measured}
## Who hears what

1. `model` is an alias (`whisper-1`, `gpt-4o-transcribe`, your own): every speech model the key may use is considered.
   A model's own name pins it.
2. `language` given, in any spelling the appliance knows (`hi`, `od-IN`, `kas_Deva`, `Tamil`): the model that
   `[speech] prefer` names for it, else the one whose catalogue entry prefers it (`preferred_for`), else any that speaks
   it; one that is ready goes first. Languages outside the 23 are left to Whisper.
3. `language` absent, `auto` or `unknown`: Whisper's host is asked first (`POST /v1/audio/detect-language` asks the same
   alone), and the answer carries `language` and `language_probability`. `languages[]` narrows it (one hint is the
   language). A hint that Whisper has no token for is refused: it cannot be told from others by ear. The detection is a
   call of the same attempt in the ledger.
4. A transcript most of whose letters are in none of its language's scripts is tried once on the next model
   (`X-Appliance-Reason: wrong_language`, a second attempt in the ledger); where that changes nothing, it is returned
   with `warnings: [{{"code": "wrong_script", …}}]`. Streams are not taken back. `[speech] script_check = false` turns
   it off.

```toml
[engines.transcribe]
kind = "whisper"
task = "transcribe"
model = "whisper-large-v3-turbo"

[engines.indic]
kind = "conformer"
model = "indic-conformer-600m-multilingual"
# extra_args = ["--device", "tensorrt", "--decoding", "rnnt"]

[speech]
prefer = {{ hi = "whisper-large-v3-turbo" }}
```

## IndicConformer's host

Windows of at most 15 s, cut in pauses (the model drops words past about 18 s); features normalised over each window
alone; windows of any languages share a batch, each under its own mask and its own `encoded_lengths`; a frame's duration
is derived from the lengths. `--decoding greedy` (default), `beam`, or `rnnt`; requests with `keywords[]` use the beam.
Words carry `confidence`.

`--device cuda` sets `cudnn_conv_algo_search=DEFAULT` and `cudnn_conv1d_pad_to_nc1d=1`, without which every new length
costs about 50 s; `tensorrt` keeps its engines in `--engine-cache`. Neither was run on a GPU here. The GPU set holds
`onnxruntime-gpu` alone: plain `onnxruntime` would overwrite its files. Before anything is loaded, every graph's weight
files are looked up: a missing blob, a hub cache of symbolic links, another vocabulary or half a graph ends the host
with one sentence.

## Modes and audio

| `mode` | |
|---|---|
| `transcribe` | the default |
| `verbatim` | Whisper may write no digits, `%` or `₹`: numbers come in words (not measured). IndicConformer does so |
| `translit` | the transcript in Latin letters (informal, by rules; Urdu has none and comes as it is, with a warning) |
| `translate` | translated into `target` (English where absent) by segment; no `stream`, no jobs; see below |
| `codemix` | English words in Latin letters, as far as they are listed; no `stream`; see below |

`codemix` looks words up in lists of screens' and offices' words as 20 languages write them, 3393 in all, mined from
LibreOffice's translations (`make codemix`). Names, words with endings and words that are not listed stay as they are:
it finds पासवर्ड and फ़ाइल, not मोबाइल. Languages without a list (Urdu, Santali, Kashmiri and Sindhi in Arabic letters)
come with the warning `not_codemixed`.

No inverse text normalisation: no package served. `indic-itn` 0.3.3 (MIT, 0.2 MB, seven languages) writes wrong numbers
without a sign of it (98,405 in Hindi words became "अट्ठानवे 1405"; of 260 numbers it got 240 right in Hindi, 76 in
Kannada, 28 in Telugu), and turns "a friend" into "1 friend". `nemo_text_processing` 1.2.0 (Apache-2.0, English and
Hindi only) is right more often (247 of 260 in English, the rest being the numbers up to twelve that it leaves), but
brings 1.1 GB of packages, 0.27 s of CPU a sentence, and 2.1 GB of memory and 225 s to compile Hindi's grammar. Whisper
writes digits by itself; IndicConformer writes words.

`POST /v1/audio/translations` is `mode=translate` under OpenAI's name. It needs a translation engine; words have no
times.

Everything FFmpeg opens (wav, mp3, m4a, ogg/opus voice notes, amr, G.711 in wav, …), and bare samples:
`input_audio_codec` = `pcm_s16le`, `pcm_s16be`, `mulaw` or `alaw` with `sample_rate` (and `channels`).
`response_format=diarized_json` takes a stereo call with one speaker a channel; `known_speaker_names[]` names left and
right. What the voice detector calls silence is not decoded; where it is hardly sure and Whisper doubts as well (music
on hold), nothing is written. Broken files and headers that cannot be true (one sample a second, 65,535 channels): 400
`no_audio`; encrypted sound (Common Encryption, FairPlay, Audible): 400 `encrypted_media`; a truncated file gives what
it holds; longer than `--max-audio-s` (a bomb): 413. Decoders have 1.5 GiB of memory, bounded CPU and no further file.

## Long files

`POST /v1/audio/transcriptions/jobs` takes the same form and answers 202 with `status_url` and `result_url`. The upload
lies in `HOME/jobs` until the job has ended, its result for `speech.job_keep_s` (a day); a killed gateway runs it again,
and an engine that dies with it is given two more tries. A form takes 25 MB (`server.max_audio_bytes`): four hours of
ogg/opus at 12 kbit/s, or 26 minutes of 8 kHz wav.
`DELETE` stops and removes it. To the ledger a try is a request, admitted when it begins. Audio by URL is refused.

```toml
[speech]
jobs_at_once = 1
webhook_hosts = ["https://hooks.example.in"]      # inside [site] networks
webhook_secret_file = "/etc/appliance/webhook.secret"   # whsec_… (base64 of at least 24 bytes)
```

With `webhook_url` at one of those origins, its host is told `audio.transcription.job.completed` (or `.failed`) and the
job's id, signed as Standard Webhooks; openai-python's `client.webhooks.verify_signature` checks it. Four tries in
31 s; redirects are not followed; the transcript itself is never sent. `progress_percent` in a job's status says how
much of the audio is done. In a speech host live audio goes before requests, and those before jobs: a job's window lets
requests pass that came up to 10 s after it, a request's window live ones for a second, so that nobody starves; jobs
leave one decoder free. Three hours of audio are 346 MB of samples in the host, and all that is held at once is bounded
by `--max-queued-audio-s` (four hours).

## Live

`appliance live` holds `WS /v1/realtime` in a process of its own, on the gateway's port plus one (a proxy in front can
give both one name). `appliance serve` starts it where a speech engine is set; `appliance status` shows it with its
sessions; `ansible/` has a systemd unit for it. It speaks OpenAI's Realtime protocol for transcription
sessions, the beta's form of settings too: `audio/pcm` at 8, 16 or 24 kHz, `audio/pcmu`, `audio/pcma`; `server_vad` or
`turn_detection: null` with commits. A `language` that is not heard here is refused at `session.update` with an `error`
event that names those that are (`GET /v1/audio/languages?model=whisper-1` lists them, with the models). Without one,
`completed` has `languages`, what was detected. The protocol's own `languages` (hints) and `keywords` are taken too.

```python
client = openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:8001/v1")
async with client.realtime.connect(extra_query={{"intent": "transcription"}}) as live:
    input_ = {{"format": {{"type": "audio/pcm", "rate": 8000}}, "transcription": {{"model": "whisper-1"}}}}
    await live.session.update(session={{"type": "transcription", "audio": {{"input": input_}}}})
    await live.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())
    async for event in live:
        ...
```

A turn is one request to the gateway, on the caller's key: events are `speech_started`, `speech_stopped`, `committed`,
`….delta`, `….completed` or `….failed`, with item ids in order. **Deltas** come while a turn is spoken (server VAD
only): what two looks at it agree on is said and not taken back; `completed` has the last word. Each look is a request
of its own in the ledger and hears the turn so far, together at most three and a half times its length; `partial_s = 0`
turns them off, and so does the first look that a limit or a budget refuses, for the session. Last passes go first, over
all sessions: a look begins only where the engine has a place for it, and one under way is cut off (a `cancelled`
request) where a last pass needs the place. There is one place to begin with; looks that are answered within 0.2 s make
it more, slower ones fewer, and after a slow one nobody looks for as long as it took beyond that. So under load a turn
has fewer deltas, or none, and its last pass does not wait for them.

**The last pass begins early**: `silence_duration_ms` (500) has to go by before a turn is over, so after `ahead_ms` of
quiet the turn is transcribed as if it were. Where the silence lasts, that is the answer, mostly there by then; where
the voice comes back it is dropped (a `cancelled` request in the ledger; together such passes hear at most three and a
half times a turn). `ahead_ms = 0` turns it off.

**After a cut** (anything but a clean close) a session waits for `resume_s`: connect with
`?resume=SESSION&after=EVENT`, and `session.created` comes with `resumed: true` and `received_ms` (how much audio
arrived), then every event after that one. openai-python does it by itself:

```python
def again(cut):
    return {{"extra_query": {{"resume": session_id, "after": last_event_id}}}}


client.realtime.connect(extra_query={{"intent": "transcription"}}, on_reconnecting=again)
```

**Exotel**: give its Stream or Voicebot applet `wss://x:KEY@HOST/v1/realtime/exotel?language=hi` (8, 16 or 24 kHz;
`model`, `language` and `prompt` from the URL or the custom parameters). Its socket carries sound only, so what was said
goes to listeners: `client.realtime.connect(call_id=CALL_SID)` on the same key hears the call from its beginning, keys
included (`input_audio_buffer.dtmf_event_received`), also for `resume_s` after its end. Nothing is spoken back.

```toml
[live]
enabled = true        # whether `appliance serve` starts it
port = 0              # the gateway's plus one
partial_s = 1.0       # audio between two looks at a turn that goes on
ahead_ms = 100        # quiet before its last pass
sessions_a_key = 16   # 429 beyond; sessions = 256 in all
idle_s = 60.0         # without a command
resume_s = 30.0
session_s = 14400.0
```

More bounds: 60 s a turn (it is cut and goes on; where turns end by commits, silence before a voice is forgotten, and
60 s without a commit after it are dropped with an `error` event), 4 turns unanswered, after which nothing more is read;
a revoked key ends its sessions with its next turn. Not there: semantic VAD, deltas with manual commits, sessions that
outlive the process.
"""


def table() -> str:
    """The whole document."""
    whisper = catalogue.load(_WHISPER)
    conformer = catalogue.load(CONFORMER)
    speakers = [
        speaker(whisper.name, "whisper", whisper.languages, whisper.preferred_for, True),
        speaker(conformer.name, "conformer", conformer.languages, conformer.preferred_for, True),
    ]
    lines = [
        "| language | code | first | stands in | measured here | published |",
        "|---|---|---|---|---|---|",
    ]
    for language in LANGUAGES:
        able = [one.model for one in ranked(language.bcp47, speakers, {})]
        cells = [
            _name(language),
            f"`{language.bcp47}`",
            f"`{able[0]}`",
            f"`{able[1]}`" if len(able) > 1 else "–",
            _english() if language.tags[0] == ENGLISH else _GENERATED,
            _PUBLISHED.get(language.bcp47, "–"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    head = _HEAD.format(whisper=_WHISPER, conformer=CONFORMER)
    return head + "\n".join(lines) + "\n" + _TAIL.format(measured=measured(_ROOT / "benchmarks" / "results"))


def _name(language: Language) -> str:
    return language.name if len(language.tags) == 1 else " / ".join(map(display_name, language.tags))


def _english() -> str:
    """From the newest committed run of ``make bench-speech``."""
    newest = sorted((_ROOT / "benchmarks" / "results").glob("speech-*.json"))[-1]
    run: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    speech, cores = run["speech"], run["machine"]["cores"]
    return (
        f"WER {speech['host']['wer']:.1f} % at {speech['host']['rtfx']:.0f}× real time on {speech['clips']} human 8 kHz"
        f" prompts, one speaker ({run['model']}, {run['compute_type']}, {cores} cores; `{newest.name}`)"
    )


if __name__ == "__main__":
    print(table(), end="")
