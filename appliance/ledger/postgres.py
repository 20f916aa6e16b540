"""One PostgreSQL connection as the ledger wants it, and its errors as sentences.

What it is: ``PostgresDb``, psycopg 3 in autocommit with explicit transactions, statements translated once from ``?``
and prepared. A transaction is one pipeline: what nobody waits for is sent with what comes next, so that a group costs
two or three round trips instead of a dozen.
What it refuses to be: a leak (no sentence holds a host, a user or a password), or patient without end: connecting,
locks and statements all time out, on the server and, where it has fallen silent (a frozen machine), here.
What it costs: a group of 16 admissions takes about four times as long as on SQLite, most of it in the server.
"""

from __future__ import annotations

import secrets
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NoReturn

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen

from appliance.errors import LedgerUnavailable
from appliance.ledger.db import EntryFault, Retry, Row, nothing

CONNECT_S = 5
# The server ends what takes it too long and says so. It is waited for a little longer than that: a server that says
# nothing for so long is frozen or cut off.
_STATEMENT_S, _SILENCE_S = 8, 10.0
_MANUAL_STATEMENT_S, _MANUAL_SILENCE_S = 15, 20.0
# The other way round: the server lets go of a box that fell silent. One whose cable is pulled in the middle of a
# transaction leaves rows locked that every other box needs: 4 s is within lock_timeout, so the others only wait.
_IDLE_S, _MANUAL_IDLE_S = 4, 60
_SETTINGS = (
    "-c synchronous_commit=on -c lock_timeout=5000 -c statement_timeout={}s -c TimeZone=UTC"
    " -c idle_in_transaction_session_timeout={}s"
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=11000"
)
_CONNECT_AGAIN_S = 1.0  # after a connection was waited for in vain, nobody else has to wait for another
_END_S = 5.0
_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)

_LAST_WORDS = 8  # messages before the end of a connection, such as why it ends

# Classes of SQLSTATE that a value can be guilty of: it does not fit, breaks a constraint, or psycopg cannot send it.
_OF_AN_ENTRY = ("22", "23", "")

# By SQLSTATE, the longest prefix first.
_SENTENCES = (
    ("53100", "its disk is full; free space on the disk of the PostgreSQL server"),
    ("53300", "it has no connection left; raise max_connections of the PostgreSQL server"),
    ("55P03", "another process holds its rows locked; end that process, or try again when it is done"),
    ("57014", "it took too long to answer; look at the load of the PostgreSQL server"),
    ("57P0", "it is stopping or starting; try again when it is up"),
    ("25006", "it is read-only; point ledger.url at the primary server"),
    ("28", "it refuses the user or password of ledger.url; correct them"),
    ("3D000", "its database does not exist; create it, or correct ledger.url"),
    ("42501", "its user may not do this; make it the owner of the ledger's database"),
    ("42P01", "its tables are missing; restore a backup, or run `appliance db upgrade`"),
)


class PostgresError(Exception):
    """What a log may hold of an error: its class and SQLSTATE."""


class Silent(psycopg.OperationalError):
    """The server has not said a word for longer than it may take."""


class Bounded(psycopg.Connection[Row]):
    """A connection that waits ``silence_s`` at most for each of the server's answers, and then is closed.

    libpq would wait for good: keep-alives find a machine that is gone, not a process that stands still.
    """

    silence_s: float | None = _MANUAL_SILENCE_S

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's. Raises Silent."""
        if timeout is not None or self.silence_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.silence_s)
        except errors._WaitTimeout as e:
            self.pgconn.finish()
            raise Silent("no answer") from e


def open_connection(url: str, *, manual: bool = False) -> Bounded:
    """A connection with the ledger's time-outs; autocommit unless ``manual``. Raises psycopg.Error."""
    # prepare_threshold 0: the hot path has few statements, so each is prepared the first time. The rest bounds how long
    # a machine that fell silent (a failed host, a cut cable) is waited for: 11 s instead of the kernel's 2 hours.
    connection = Bounded.connect(
        url,
        autocommit=not manual,
        connect_timeout=CONNECT_S,
        options=_SETTINGS.format(
            *((_MANUAL_STATEMENT_S, _MANUAL_IDLE_S) if manual else (_STATEMENT_S, _IDLE_S)),
        ),
        application_name=f"appliance {secrets.token_hex(8)}",  # by which its end can be looked for
        prepare_threshold=0,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=11_000,
    )
    connection.silence_s = _MANUAL_SILENCE_S if manual else _SILENCE_S
    return connection


def take_your_time(connection: Any) -> None:
    """No statement of the open transaction times out, nor silence: for backups, checks and upgrades.

    ``connection`` is psycopg's, as ``open_connection`` made it.
    """
    connection.silence_s = None
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


class PostgresDb:
    """``Db`` over one PostgreSQL connection."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: str | None = None
        self._statements: dict[str, bytes] = {}
        self._connection: Bounded | None = None
        self._name = ""  # of the connection, in the server's list
        self._broken = ""  # of one that broke, whose last transaction may still run
        self._not_before_s = 0.0
        self._pipeline = ExitStack()
        self._sent: psycopg.Pipeline | None = None
        with self._errors():
            self._live()

    def begin(self, while_waiting: Callable[[], None] = nothing, durable: bool = True) -> None:
        """Start a transaction, on a new connection if the old one broke."""
        with self._errors():
            if self._connection is not None and _has_ended(self._connection):
                self._drop(under_way=False)  # the server was restarted since
            connection = self._live()
            self._pipeline = ExitStack()
            self._sent = self._pipeline.enter_context(connection.pipeline())
            connection.execute("BEGIN")
            if not durable:
                connection.execute("SET LOCAL synchronous_commit = off")

    def commit(self) -> None:
        """Durable on return unless ``begin`` was told otherwise. Raises EntryFault for what was sent; it is undone."""
        with self._errors():
            cursor = self._live().execute("COMMIT")
            self._leave()
            if cursor.statusmessage != "COMMIT":  # of a failed transaction it makes a ROLLBACK, without an error
                raise psycopg.OperationalError("the transaction had failed")

    def rollback(self) -> None:
        """Undo; a connection that cannot is dropped."""
        if self._connection is None:
            return
        with suppress(psycopg.Error):
            self._leave()
        try:
            if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self._connection.execute("ROLLBACK")
        except psycopg.Error:
            self._drop()

    def savepoint(self) -> None:
        """One level inside a transaction, which is a pipeline no longer: each statement says at once what is wrong."""
        with self._errors():
            self._leave()
            self._live().execute("SAVEPOINT entry")

    def release(self) -> None:
        """Keep what came since ``savepoint``."""
        with self._errors():
            self._live().execute("RELEASE SAVEPOINT entry")

    def undo(self) -> None:
        """Drop what came since ``savepoint``."""
        with self._errors():
            self._live().execute("ROLLBACK TO SAVEPOINT entry")
            self._live().execute("RELEASE SAVEPOINT entry")

    def run(self, sql: str, rows: Sequence[Row]) -> int:
        """Execute once per row, in one round trip."""
        with self._errors():
            cursor = self._execute(sql, rows)
            if self._sent is not None:
                self._sent.sync()
            return cursor.rowcount

    def send(self, sql: str, rows: Sequence[Row]) -> None:
        """Execute once per row; in a transaction, with what comes next."""
        with self._errors():
            self._execute(sql, rows)

    def _execute(self, sql: str, rows: Sequence[Row]) -> psycopg.Cursor[Row]:
        statement, cursor = self._translated(sql), self._live().cursor()
        if len(rows) == 1:
            return cursor.execute(statement, rows[0])
        cursor.executemany(statement, rows)
        return cursor

    def _leave(self) -> None:
        self._sent = None
        self._pipeline.close()

    def query(self, sql: str, row: Row = ()) -> list[Row]:
        """All rows."""
        with self._errors():
            return self._live().execute(self._translated(sql), row).fetchall()

    def changed(self) -> bool:
        """One round trip."""
        ((version,),) = self.query("SELECT value FROM meta WHERE name = 'auth_version'")
        changed = bool(version != self._seen)
        self._seen = version
        return changed

    def close(self) -> None:
        """Close the connection."""
        self._drop(under_way=False)

    def _live(self) -> Bounded:
        if self._connection is None or self._connection.closed:
            if time.monotonic() < self._not_before_s:
                raise errors.ConnectionTimeout("it did not answer a moment ago")
            try:
                opened = open_connection(self._url)
            except errors.ConnectionTimeout:
                self._not_before_s = time.monotonic() + _CONNECT_AGAIN_S
                raise
            try:
                _end(opened, self._broken)
            except BaseException:
                opened.close()
                raise
            self._broken, self._name = "", opened.info.parameter_status("application_name") or ""
            self._connection = opened
        return self._connection

    def _drop(self, *, under_way: bool = True) -> None:
        if self._connection is not None:
            if under_way:
                self._broken = self._name
            with suppress(psycopg.Error):
                self._leave()
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _translated(self, sql: str) -> bytes:
        """``?`` as ``%s``. No statement of the ledger has either sign in a literal.

        Bytes, because psycopg types its statements as literal strings, to keep values out of them; ours have none.
        """
        translated = self._statements.get(sql)
        if translated is None:
            translated = self._statements[sql] = sql.replace("%", "%%").replace("?", "%s").encode()
        return translated

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _AGAIN as e:
            raise Retry("the ledger is busy; try again", headers={"retry-after": "1"}) from e
        except (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError) as e:
            if _state(e)[:2] in _OF_AN_ENTRY:
                raise EntryFault(type(e).__name__) from e
            self._drop()  # tables that changed or went away: a new connection knows what is there now
            raise_unavailable(e)
        except psycopg.Error as e:
            if self._connection is not None and self._connection.closed:
                self._drop()
            raise_unavailable(e)


def _end(connection: Bounded, name: str) -> None:
    """See to it that the transaction of the connection ``name`` has an end: what it left is known only then.

    A server that was frozen may hold a COMMIT that it takes up after we have looked. Raises psycopg.Error.
    """
    if not name:
        return
    left = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = %s AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    give_up = time.monotonic() + _END_S
    while connection.execute(left, (name,)).fetchall():
        if time.monotonic() >= give_up:
            raise Silent("an earlier transaction has no end")
        time.sleep(0.01)


def _has_ended(connection: Bounded) -> bool:
    """Whether the server has closed it. Costs no round trip: an idle connection has nothing to read but its end."""
    if connection.closed:
        return True
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    try:
        for _ in range(_LAST_WORDS):
            if not waiting.poll(0):
                break
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.pgconn.status != psycopg.pq.ConnStatus.OK


def unavailable(error: psycopg.Error) -> LedgerUnavailable:
    """The 503 that callers see. The cause is chained for the log."""
    state = _state(error)
    why = next((text for prefix, text in _SENTENCES if state.startswith(prefix)), None)
    if why is None and isinstance(error, Silent | errors.ConnectionTimeout):
        why = "PostgreSQL does not answer; see whether its machine is frozen, overloaded or cut off"
    if why is None:
        why = (
            f"PostgreSQL said {state}; see its log"
            if state
            else "PostgreSQL cannot be reached; start it, or correct ledger.url"
        )
    result = LedgerUnavailable(f"the ledger cannot be used: {why}", headers={"retry-after": "5"})
    result.__cause__ = _without_secrets(error)
    return result


def raise_unavailable(error: psycopg.Error) -> NoReturn:
    """Raise it with the cause that a log may hold; ``from error`` would put libpq's text back."""
    failure = unavailable(error)
    raise failure from failure.__cause__


def _state(error: psycopg.Error) -> str:
    return error.sqlstate or ""


def _without_secrets(error: psycopg.Error) -> Exception:
    """libpq's texts name host and user."""
    return PostgresError(f"{type(error).__name__} {_state(error)}".strip())
