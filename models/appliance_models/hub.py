"""A model hub as a source, through ``huggingface_hub``: listings, downloads that go on, and errors as one sentence.

What it is: the real client's API call, authentication, redirects and retries. The partial file is ours, because the
client's own downloads begin anew after a kill -9 since its version 2 (huggingface_hub #4228).
What it refuses to be: chatty. No telemetry, no progress bars of its own, and no log lines, since the addresses a hub
redirects to carry signatures. A token is sent to the hub only, and never printed.
What it costs: one request for the listing and one for each file, not two. Single files of more than 50 GB need Xet,
which is not used here.
"""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

from appliance_models.entry import Model
from appliance_models.errors import StoreError
from appliance_models.listing import Listing, Promised
from appliance_models.manifest import Origin

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

PUBLIC = "https://huggingface.co"
PIECE_BYTES = 256 * 1024
_ELSEWHERE = "run the command with --update to take the files that are there now, or import a copy with --from DIR"


@dataclass(frozen=True)
class Hub:
    """One hub, as one account. ``token`` empty means none."""

    endpoint: str = PUBLIC
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Hub:
        """``HF_ENDPOINT`` and ``HF_TOKEN``, or the file ``HF_TOKEN_PATH``. Raises StoreError for one it cannot read."""
        token = environ.get("HF_TOKEN", "").strip()
        if not token and environ.get("HF_TOKEN_PATH"):
            path = Path(environ["HF_TOKEN_PATH"]).expanduser()
            try:
                token = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as e:
                raise StoreError(f"HF_TOKEN_PATH names {path}, which cannot be read: {_why(e)}") from None
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or PUBLIC
        if not endpoint.startswith(("http://", "https://")):
            raise StoreError(f"HF_ENDPOINT is {endpoint!r}; write an address such as https://hub.example.com")
        return cls(endpoint, token)

    def listing(self, model: Model, commit: str = "") -> Listing:
        """The files of ``commit``, or of the model's revision and the commit that it means now."""
        assert model.hub is not None
        repo, revision = model.hub.repo, model.hub.revision
        try:
            info = self._api().model_info(repo, revision=commit or revision, files_metadata=True)
            if info.id != repo:  # renamed: a redirect may have lost the question for the files' sizes
                info = self._api().model_info(info.id, revision=commit or revision, files_metadata=True)
        except Exception as e:
            _raise(e, self._sentence(e, repo, f"revision {revision!r}", commit))
        there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        absent = model.hub.wanted.missing(there)
        if absent:
            raise StoreError(
                f"{repo} at {self.endpoint} has no {absent[0]} at revision {revision!r}; name another revision"
                " in an entry of your own, or import a copy with --from DIR"
            )
        files = tuple(_promised(there[path]) for path in model.hub.wanted.take(there))
        return Listing(model.recipe, Origin("hub", repo, revision, _commit(info, revision)), files)

    def fetch(self, listing: Listing, file: Promised, part: Path, watch: Callable[[int], None]) -> None:
        """One file at the listing's commit, behind what ``part`` has already."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        _tame()
        origin = listing.origin
        url = hf_hub_url(origin.where, file.path, revision=origin.commit, endpoint=self.endpoint)
        # a compressed body cannot be gone on with
        headers = {**build_hf_headers(token=self.token or False), "Accept-Encoding": "identity"}
        try:
            with part.open("ab", buffering=0) as out:
                http_get(
                    url,
                    cast(BinaryIO, _Watched(out, watch)),
                    resume_size=part.stat().st_size,
                    headers=headers,
                    expected_size=file.bytes,
                )
        except Exception as e:
            if _wrong_length(e):  # a wrong length is found and thrown away where every other wrong byte is
                return
            _raise(e, self._sentence(e, origin.where, file.path, origin.commit, part))

    def _api(self) -> HfApi:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import HfApi

        _tame()
        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="inference-appliance")

    def _sentence(self, e: Exception, repo: str, what: str, commit: str, part: Path | None = None) -> StoreError | None:
        """What the operator reads instead of ``e``, None for what the hub has nothing to do with."""
        import httpx2
        from huggingface_hub import errors

        status = getattr(getattr(e, "response", None), "status_code", 0)
        kept = f"; {part.stat().st_size / 1e6:.0f} MB of {what} are kept" if part and part.exists() else ""
        if isinstance(e, errors.GatedRepoError):
            return StoreError(self._gated(repo, status))
        if isinstance(e, errors.RevisionNotFoundError) and commit:
            return StoreError(f"commit {commit} is gone from {repo} at {self.endpoint}; {_ELSEWHERE}")
        if isinstance(e, errors.RevisionNotFoundError):
            return StoreError(f"{repo} has no {what} at {self.endpoint}; correct `revision` in its catalogue entry")
        if isinstance(e, errors.EntryNotFoundError):
            return StoreError(f"{what} was removed from {repo} at {self.endpoint}; {_ELSEWHERE}")
        if isinstance(e, errors.OfflineModeIsEnabled):
            return StoreError("HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, or import with --from DIR")
        if status in (401, 403, 404):
            return StoreError(self._refused(repo, status))
        if isinstance(e, errors.HfHubHTTPError):
            return StoreError(f"{self.endpoint} answered {status} for {repo}{kept}; run the same command again later")
        if isinstance(e, ValueError | KeyError | TypeError):  # a page of some proxy, say
            return StoreError(f"{self.endpoint} does not answer as a model hub for {repo}; check HF_ENDPOINT")
        if isinstance(e, httpx2.HTTPError):
            return StoreError(
                f"{self.endpoint} cannot be reached for {repo} ({_why(e)}){kept}; connect this machine and run the same"
                " command again, set HF_ENDPOINT to a mirror, or import a copy with --from DIR"
            )
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(f"the disk filled up while {what} came{kept}; free some space, then run it again")
        return None

    def _gated(self, repo: str, status: int) -> str:
        page = f"{self.endpoint}/{repo}"
        if self.token and status == 403:
            return (
                f"{repo} is gated and the account of this token has no access to it yet; open {page}, ask for access"
                " with that account, and pull again once it is granted"
            )
        return (
            f"{repo} is gated: open {page} in a browser, agree to its terms with your account, make a token that may"
            f" read it at {self.endpoint}/settings/tokens, and run this again with HF_TOKEN=… or HF_TOKEN_PATH=FILE"
        )

    def _refused(self, repo: str, status: int) -> str:
        if self.token and status == 401:
            return f"{self.endpoint} does not accept this token; check HF_TOKEN, or the file HF_TOKEN_PATH names"
        hint = "the account of HF_TOKEN may not see it" if self.token else "it may need a token in HF_TOKEN"
        return f"{self.endpoint} has no repository {repo} for you ({status}); check its name, or {hint}"


class _Watched:
    """The partial file, which tells of every write. Only what the client's ``http_get`` calls."""

    def __init__(self, out: io.RawIOBase | BinaryIO, watch: Callable[[int], None]) -> None:
        self._out = out
        self._watch = watch

    def write(self, data: bytes) -> int:
        self._watch(len(data))
        view = memoryview(data)
        while view:  # an unbuffered write may take less
            view = view[self._out.write(view) or 0 :]
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._out.seek(offset, whence)

    def tell(self) -> int:
        return self._out.tell()

    def truncate(self, size: int | None = None) -> int:
        at = self._out.tell() if size is None else size
        self._watch(at - self._out.seek(0, io.SEEK_END))
        self._out.seek(at)
        return self._out.truncate(at)


def _promised(sibling: RepoSibling) -> Promised:
    if sibling.lfs is not None:
        return Promised(sibling.rfilename, sibling.lfs.size, sha256=sibling.lfs.sha256)
    if sibling.size is None:
        raise StoreError(f"the hub names no size for {sibling.rfilename}; set HF_ENDPOINT to one that does")
    return Promised(sibling.rfilename, sibling.size, git_sha1=sibling.blob_id or "")


def _commit(info: ModelInfo, revision: str) -> str:
    if not info.sha:
        raise StoreError(f"{info.id} has no commit for revision {revision!r}; this endpoint is no model hub")
    return info.sha


def _tame() -> None:
    """No bars and no log lines of the client's, whose addresses carry signatures; and pieces as small as our loss.

    The client keeps a piece in memory until it is whole, 10 MB by default. A line that is cut more often than that
    would never get on, and a kill -9 would lose as much.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars("huggingface_hub.http_get")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    constants.DOWNLOAD_CHUNK_SIZE = PIECE_BYTES


def _raise(e: Exception, sentence: StoreError | None) -> NoReturn:
    if sentence is None:
        raise e
    raise sentence from None


def _wrong_length(e: Exception) -> bool:
    """The client's own check of the length: an OSError that no system call raised."""
    return type(e) is OSError and e.errno is None


def _why(e: Exception) -> str:
    """Why, without an address: those carry signatures."""
    cause = e.__cause__ or e.__context__
    for one in (e, cause):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return type(e).__name__ if "://" in str(e) or not str(e) else str(e)
