"""What an operator can set for a hosted engine: ``[engines.NAME.hosted]``.

What it is: where a hosted model runs, whose traffic may go there, and how much of it; checked with ``appliance.toml``.
What it refuses to be: a default place. A region that is not declared, or that nobody knows, is an error: where data
goes is not guessed.
"""

from __future__ import annotations

import difflib
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Where Google serves Gemini through Vertex AI: single regions, two multi-regions with addresses of their own, and
# "global", which is also all that an API key buys: it names no country.
REGIONS = frozenset(
    region
    for line in (
        "global us eu africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1",
        "asia-south2 asia-southeast1 asia-southeast2 australia-southeast1 australia-southeast2 europe-central2",
        "europe-north1 europe-southwest1 europe-west1 europe-west2 europe-west3 europe-west4 europe-west6 europe-west8",
        "europe-west9 europe-west12 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2",
        "southamerica-east1 southamerica-west1 us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2",
        "us-west3 us-west4",
    )
    for region in line.split()
)
DEFAULT_MODEL = "gemini-3.1-flash-lite"


class HostedSettings(BaseModel):
    """One hosted endpoint.

    ``region``: where it is, in Google's words; an API key reaches ``global`` only, ``vertex_project`` any region.
    ``other_address``: that ``url`` may be another than Google's. ``proxy``: the site's way out, ``http://host:port``.
    ``tenants``: ids that may use it whatever their permits say (empty: all); ``redacted_only``: nothing unredacted.
    ``max_usd_per_call``, ``max_usd_per_day``: the process' own caps beside those of the ledger.
    ``max_output_tokens``: for requests that set no bound. ``permit_key``: the gateway's public key (``appliance engine
    permit-key`` prints it) where gateway and hosted process have homes of their own; ``run_dir``: for the gateway,
    where that process keeps its socket.
    ``check``: whether the key is tried (a free look at the model) before the engine counts as ready.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    region: str = ""
    vertex_project: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9:.-]{2,99}$")
    other_address: bool = False
    proxy: str | None = None
    tenants: tuple[str, ...] = ()
    redacted_only: bool = False
    max_usd_per_call: float = Field(default=1.0, gt=0)
    max_usd_per_day: float = Field(default=20.0, gt=0)
    max_output_tokens: int = Field(default=8192, ge=1, le=65_536)
    max_at_once: int = Field(default=64, ge=1, le=1024)
    permit_key: str | None = None
    run_dir: str | None = None
    check: bool = True

    @field_validator("region")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value not in REGIONS:
            near = difflib.get_close_matches(value, sorted(REGIONS), n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else "write one of Vertex AI's, such as asia-south1, or global"
            raise ValueError(f"{value!r} is no region of Gemini; {hint}")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> HostedSettings:
        if self.region not in ("", "global") and self.vertex_project is None:
            raise ValueError(
                f"an API key reaches Gemini's global endpoint only, not {self.region}; set vertex_project, or"
                ' region = "global"'
            )
        return self


def check_hosted(hosted: HostedSettings, url: str | None, api_key_file: str | None) -> None:
    """What ``hosted`` and its engine have to say together. Raises ValueError with one sentence."""
    if not hosted.region:
        raise ValueError(
            'a hosted engine needs a declared region; write region = "global", or Vertex AI\'s name for one'
        )
    if api_key_file is None and hosted.run_dir is None:
        raise ValueError("a hosted engine needs api_key_file; keys are read from files only")
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: {url!r} is no address; leave it out for Google's own")
    if not is_googles(parts.hostname, parts.scheme) and not hosted.other_address:
        raise ValueError(
            f"url: {parts.hostname} is not Google's; leave url out, or set other_address = true under"
            " [engines.NAME.hosted] if prompts may go there"
        )


def is_googles(host: str, scheme: str = "https") -> bool:
    """Whether ``host`` belongs to Google's APIs, reached over TLS."""
    return scheme == "https" and (host == "googleapis.com" or host.endswith(".googleapis.com"))
