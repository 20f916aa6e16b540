"""pip's configuration reaches uv whole, and its credentials reach nobody's eyes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance_setup import registry

LISTED = """\
:env:.find-links='/srv/wheels /srv/more'
global.cert='/etc/ssl/company.pem'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.find-links='/elsewhere'
global.index-url='https://me:s3cret@mirror.example/simple'
global.timeout='60'
install.trusted-host='mirror.example'
freeze.timeout='10'
WARNING: something else
"""


def test_later_sections_win_and_foreign_ones_are_ignored() -> None:
    config = registry.parse_config(LISTED)
    assert config["find-links"] == "/srv/wheels /srv/more"
    assert config["timeout"] == "60"
    assert config["trusted-host"] == "mirror.example"


def test_every_key_has_its_word_in_uv() -> None:
    environ = registry.uv_environment(registry.parse_config(LISTED), {"PATH": "/bin"})
    assert environ == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://me:s3cret@mirror.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/srv/wheels,/srv/more",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_HTTP_TIMEOUT": "60",
        "SSL_CERT_FILE": "/etc/ssl/company.pem",
    }


def test_what_is_set_for_uv_already_stays() -> None:
    environ = registry.uv_environment({"index-url": "https://a.example"}, {"UV_DEFAULT_INDEX": "https://b.example"})
    assert environ["UV_DEFAULT_INDEX"] == "https://b.example"


def test_no_index_is_a_flag() -> None:
    assert registry.uv_flags({"no-index": "true"}) == ["--no-index"]
    assert registry.uv_flags({"no-index": "false"}) == []
    assert registry.uv_flags({}) == []


def test_pip_itself_is_asked(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_INDEX_URL": "https://asked.example/simple"}
    assert registry.pip_config(Path(sys.executable), environ)["index-url"] == "https://asked.example/simple"


def test_credentials_are_scrubbed() -> None:
    assert registry.scrub("at https://me:s3cret@mirror.example/simple!") == "at https://***@mirror.example/simple!"
    assert "s3cret" not in registry.explain("error: https://me:s3cret@mirror.example is odd")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("write: No space left on device (os error 28)", "disk is full"),
        ("error: Hash mismatch for `rich==15.0.0`", "not the locked one"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the locked one"),
        ("invalid peer certificate: UnknownIssuer", "global.cert"),
        ("HTTP status client error (401 Unauthorized) for url", "refused the credentials"),
        ("error: Failed to fetch: `https://mirror.example/simple/rich/`", "cannot be reached"),
        ("Temporary failure in name resolution", "cannot be reached"),
        ("No solution found when resolving dependencies", "lacks a locked package"),
        ("something new", "something new"),
        ("", "printed nothing"),
    ],
)
def test_each_cause_has_one_sentence(output: str, says: str) -> None:
    sentence = registry.explain(output)
    assert says in sentence
    assert "\n" not in sentence
