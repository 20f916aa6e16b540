"""The fake engine: an OpenAI-shaped server that ships beside the real ones and can be told to fail.

What it is: ``python -m appliance.hosts.fake --socket PATH | --port N``: answers like vLLM 0.32 and
like the Whisper host, at a chosen length and pace, with every fault of ``fake_faults``; upstream of
the contract tests and of ``make bench-gateway``.
What it refuses to be: a model. It imports neither torch nor vLLM and starts in a tenth of a second.
Costs one core at about 60,000 small requests/s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import uvloop

from appliance.hosts.fake_answers import FakeEngine, FakeOptions
from appliance.hosts.fake_faults import OOM_TEXT, UnknownFault, process_fault
from appliance.hosts.fake_script import GARBAGE
from appliance.hosts.fake_server import Counters, FakeProtocol

_BACKLOG = 2048


class _Deaf(asyncio.Protocol):
    """Accepts and reads nothing: what a connection to a frozen process looks like."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


class _Garbage(asyncio.Protocol):
    """Whatever is asked, what comes back is no HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(GARBAGE)
        self._transport.close()


def _orphan() -> None:
    """A child in a session of its own that only SIGKILL ends."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    child = subprocess.Popen((sys.executable, "-I", "-S", "-c", code), start_new_session=True)
    print(f"orphan {child.pid}", flush=True)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m appliance.hosts.fake", description=__doc__.partition("\n")[0])
    parser.add_argument("--socket", help="Unix socket to listen on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="TCP port to listen on (0: any; printed on stdout)")
    parser.add_argument("--model", action="append", help="name to serve; may be given several times")
    parser.add_argument("--chunks", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--chunk-ms", type=float, default=0.0, help="milliseconds between events")
    parser.add_argument("--ttft-ms", type=float, default=0.0, help="milliseconds to the first event")
    parser.add_argument("--burst", type=int, default=1, help="events per write")
    parser.add_argument("--text", default="", help="answer this instead of t0 t1 …")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument("--max-num-seqs", type=int, default=1_000_000, help="requests that run at once")
    parser.add_argument("--fault", help="a fault of the whole process, NAME or NAME=VALUE")
    args = parser.parse_args(argv)
    if args.socket is None and args.port is None:
        parser.error("give --socket PATH or --port N")
    return args


async def serve(args: argparse.Namespace, fault: str, value: str) -> None:
    """Listen until SIGTERM or SIGINT; requests under way are dropped, as a killed engine drops them."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if fault == "slow_start":
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), float(value or 5))
    if fault != "refuse" and not stopped.is_set():
        await _listen(loop, args, _protocol(loop, args, fault, value))
    await stopped.wait()
    if args.socket is not None:
        Path(args.socket).unlink(missing_ok=True)


def _protocol(
    loop: asyncio.AbstractEventLoop, args: argparse.Namespace, fault: str, value: str
) -> Callable[[], asyncio.Protocol]:
    if fault == "connect_hang":
        return _Deaf
    if fault == "garbage":
        return _Garbage
    counters = Counters()
    options = FakeOptions(
        models=tuple(args.model or ("fake",)),
        chunks=args.chunks,
        chunk_ms=args.chunk_ms,
        ttft_ms=args.ttft_ms,
        burst=args.burst,
        max_model_len=args.max_model_len,
        text=args.text,
        fault=fault,
        hang_after=int(value or 1) if fault == "hang_after" else -1,
    )
    engine = FakeEngine(options, counters)
    return lambda: FakeProtocol(engine, counters, args.max_num_seqs, loop)


async def _listen(
    loop: asyncio.AbstractEventLoop, args: argparse.Namespace, protocol: Callable[[], asyncio.Protocol]
) -> None:
    if args.socket is not None:
        Path(args.socket).unlink(missing_ok=True)
        await loop.create_unix_server(protocol, args.socket, backlog=_BACKLOG)
        print(f"listening on {args.socket}", flush=True)
    if args.port is not None:
        server = await loop.create_server(protocol, args.host, args.port, backlog=_BACKLOG)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening on http://{host}:{port}", flush=True)


def main(argv: Sequence[str]) -> int:
    """Entry point; the exit status."""
    args = _arguments(argv)
    try:
        fault, value = process_fault(args.fault)
    except UnknownFault as e:
        print(e, file=sys.stderr)
        return 2
    if fault == "orphan":
        _orphan()
    if fault == "oom_start":
        print(OOM_TEXT, file=sys.stderr, flush=True)
        return 1
    if fault == "crash_loop":
        raise RuntimeError("fake engine: crash_loop was asked for")
    uvloop.run(serve(args, fault, value))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
