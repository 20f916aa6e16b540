"""The roles' templates, rendered as Ansible would, with nothing but Jinja: defaults first, then what a case sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "ansible" / "roles"


def environment(role: str) -> Environment:
    loader = FileSystemLoader(ROLES / role / "templates")
    # as Ansible does it: an included file loses its last newline, and the whole keeps its own (see render)
    made = Environment(loader=loader, trim_blocks=True, undefined=StrictUndefined)
    made.filters["basename"] = lambda path: str(path).rsplit("/", 1)[-1]
    made.filters["bool"] = lambda value: str(value).lower() in ("true", "yes", "1")
    made.filters["regex_replace"] = lambda text, found, put: re.sub(found, put, text)
    made.tests["search"] = lambda text, part: part in text
    return made


def values(role: str, **given: Any) -> dict[str, Any]:
    """The role's defaults, each an expression of the others at most, under what a case sets."""
    jinja = environment(role)
    found: dict[str, Any] = {"ansible_managed": "Ansible managed"}
    own = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    for name, value in {**own, **given}.items():
        if isinstance(value, str) and "{{" in value:
            text = jinja.from_string(value).render({**given, **found})
            found[name] = yaml.safe_load(text)
        else:
            found[name] = value
    return found


def render(role: str, template: str, **given: Any) -> str:
    text = environment(role).get_template(template).render(values(role, **given))
    return text if text.endswith("\n") else text + "\n"
