# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who of a run is there, and who is gone: said in words, before anything hangs or aborts.

Left to themselves, the processes of a run wait forever for one that never started, and abort from
C++ when the first of them dies, which holds JAX's coordination service. So the first process
starts a *coordinator*, a small process of its own that outlives it (`python -m jvlm.roll_call`):

    port      JAX's coordination service
    port + 1  the roll call: one connection a process, one JSON object a line

    a process says      {"index", "host"}, then {"beat"}, {"open": name, "seconds"},
                        {"put": name, "value"}, {"end": line or null}
    the coordinator     {"beat"}, {"all": name, "values"}, {"lost": line}

A process that is killed closes its connection, which is noticed at once; a host that vanishes
stops beating, which is noticed after `SILENCE`.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jvlm.errors import PeerLost, UserError

BEAT, SILENCE = 2.0, 20.0  # Seconds between two beats, and without one until a host is given up.
# Bad input ends every process of a run with the same line: time to say it before others are told.
GRACE = 3.0
# What is left of a run is waited for this long when its first process is gone.
LINGER = 2 * SILENCE
# Who has done its share of `jvlm embed` or `capfilt` waits for the others; JAX aborts all of them
# after five minutes. One that dies meanwhile is noticed by the heartbeat.
PATIENCE = 30 * 24 * 3600


class RollCall:
    """This process's connection to the coordinator.

    Args:
      host: of the coordinator.
      port: of the roll call.
      index: of this process.
      seconds: to wait for the coordinator.
      on_lost: called in a thread with the line that says who is lost. By default the line is
        printed and the process ends: its main thread may be waiting in a collective for ever.

    Raises:
      PeerLost: no coordinator.
    """

    def __init__(
        self,
        host: str,
        port: int,
        index: int,
        seconds: float,
        on_lost: Callable[[str], None] | None = None,
    ):
        self._on_lost = on_lost or leave
        self._answers: dict[str, list] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._ended = False
        self._socket = _connect(host, port, seconds)
        self._socket.settimeout(SILENCE)
        self._where = f"{host}:{port}"
        self._send({"index": index, "host": socket.gethostname()})
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def open(self, name: str, seconds: float) -> None:
        """Announces something that every process will `put`, or be named, within some time."""
        self._send({"open": name, "seconds": seconds})

    def put(self, name: str, value: Any = None) -> list:
        """Adds this process's value, waits for the others', gives all of them by index."""
        self._send({"put": name, "value": value})
        with self._changed:
            self._changed.wait_for(lambda: name in self._answers)
            return self._answers.pop(name)

    def exchange(self, name: str, value: Any, seconds: float) -> list:
        """`open` and `put`."""
        self.open(name, seconds)
        return self.put(name, value)

    def end(self, line: str | None = None) -> None:
        """Leaves: done, or with the reason for which the others cannot go on either."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):
                self._send({"end": line})

    def close(self) -> None:
        """Leaves and closes the connection."""
        self.end()
        with contextlib.suppress(OSError):  # It may be closed at the other end.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, message: dict) -> None:
        with self._sending:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # The other thread finds out why.
            while not self._ended:
                time.sleep(BEAT)
                self._send({"beat": 1})

    def _listen(self) -> None:
        reason = "its connection closed"
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    if "all" in message:
                        with self._changed:
                            self._answers[message["all"]] = message["values"]
                            self._changed.notify_all()
                    elif "lost" in message and not self._ended:
                        self._on_lost(message["lost"])
                        return
        except TimeoutError:
            reason = f"silent for {SILENCE:.0f} s"
        except OSError as error:
            reason = error.strerror or str(error)
        if not self._ended:
            self._on_lost(f"process 0 is lost with its coordinator {self._where}: {reason}")


def leave(line: str) -> None:
    """Says why, and ends the process whatever its other threads are waiting for."""
    print(f"\njvlm: {line}", file=sys.stderr, flush=True)  # Below the progress bar.
    os._exit(PeerLost.status)


def start_coordinator(port: int, count: int) -> subprocess.Popen:
    """Starts the coordinator of `count` processes; it ends with this process and the others.

    Raises:
      UserError: the port cannot be had.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "jvlm.roll_call", str(port), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # What is sent to the terminal's processes is not for it.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    answer = process.stdout.readline().strip()
    if answer != "ready":
        raise UserError(
            f"JVLM_COORDINATOR: ports {port} and {port + 1} are needed here: "
            f"{answer or 'the coordinator did not start'}"
        )
    return process


def free_port() -> int:
    """The first of two ports in a row that are free on this host: what a coordinator needs."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("", port + 1))
                return port
            except (OSError, OverflowError):
                continue


def _connect(host: str, port: int, seconds: float) -> socket.socket:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerLost(
                    f"no coordinator at {host}:{port} for {seconds:.0f} s "
                    f"({error.strerror or error}): has process 0 started there?"
                ) from None
            time.sleep(0.2)


@dataclasses.dataclass
class _Member:
    writer: asyncio.StreamWriter
    host: str
    heard: float
    running: bool = True
    connected: bool = True


class _Coordinator:
    """The other end."""

    def __init__(self, count: int):
        self._count = count
        self._members: dict[int, _Member] = {}
        self._rounds: dict[str, dict[int, Any]] = {}
        self._deadlines: dict[str, tuple[float, float]] = {}
        self._verdict: str | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One process's connection, from its first word to its end."""
        try:
            hello = json.loads(await reader.readline())
            index, host = hello["index"], hello["host"]
        except (ValueError, KeyError, ConnectionError):
            writer.close()
            return
        if index in self._members or not 0 <= index < self._count:
            line = f"{self._name(index)} is there already, {host} claims to be it"
            _send(writer, {"lost": f"{line}: JVLM_PROCESS_ID counts from 0, each once"})
            writer.close()
            return
        member = self._members[index] = _Member(writer, host, time.monotonic())
        if self._verdict:
            _send(writer, {"lost": self._verdict})
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                member.heard = time.monotonic()
                self._receive(index, json.loads(line))
        member.connected = False
        writer.close()
        if member.running:
            self._lose(f"{self._name(index)} is lost: its connection closed, so it was killed")

    async def watch(self) -> None:
        """Beats, and gives up who has been silent or late."""
        while True:
            await asyncio.sleep(BEAT / 2)
            now = time.monotonic()
            for index, member in self._members.items():
                if member.connected:
                    _send(member.writer, {"beat": 1})
                if member.running and now - member.heard > SILENCE:
                    self._lose(f"{self._name(index)} is lost: silent for {SILENCE:.0f} s")
            for name, (deadline, seconds) in self._deadlines.items():
                if now > deadline:
                    late = [i for i in range(self._count) if i not in self._rounds.get(name, {})]
                    names = ", ".join(self._name(index) for index in late)
                    self._lose(
                        f"{name}: {len(late)} of {self._count} processes were missing for "
                        f"{seconds:.0f} s: {names}"
                    )

    async def wait(self) -> None:
        """Until nobody is left, or it took too long."""
        deadline = time.monotonic() + LINGER
        while any(m.connected for m in self._members.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    def _receive(self, index: int, message: dict) -> None:
        if "open" in message:
            seconds = message["seconds"]
            deadline = (time.monotonic() + seconds, seconds)
            self._deadlines.setdefault(message["open"], deadline)
        elif "put" in message:
            name = message["put"]
            values = self._rounds.setdefault(name, {})
            values[index] = message["value"]
            if len(values) == self._count:
                del self._rounds[name]
                self._deadlines.pop(name, None)
                ordered = [values[i] for i in range(self._count)]
                self._broadcast({"all": name, "values": ordered})
        elif "end" in message:
            self._members[index].running = False
            if message["end"]:
                line = f"{self._name(index)} ended: {message['end']}"
                asyncio.get_running_loop().call_later(GRACE, self._lose, line)

    def _lose(self, line: str) -> None:
        if self._verdict is None:
            self._verdict = line
            self._broadcast({"lost": line})

    def _broadcast(self, message: dict) -> None:
        for member in self._members.values():
            if member.connected:
                _send(member.writer, message)

    def _name(self, index: int) -> str:
        host = self._members[index].host if index in self._members else "never seen"
        return f"process {index} ({host})"


def _send(writer: asyncio.StreamWriter, message: dict) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


async def _coordinate(port: int, count: int) -> None:
    coordinator = _Coordinator(count)
    deadline = time.monotonic() + LINGER
    while True:  # The coordinator of a run that has just been killed may be leaving.
        try:
            server = await asyncio.start_server(coordinator.serve, None, port + 1)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                print(error.strerror or error, flush=True)
                return
            await asyncio.sleep(0.5)
    from jaxlib import _jax

    service = _jax.get_distributed_runtime_service(f"[::]:{port}", count, shutdown_timeout=PATIENCE)
    watching = asyncio.create_task(coordinator.watch())
    print("ready", flush=True)
    # Standard input ends with the process that started this one.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await coordinator.wait()
    del server, service, watching  # Which had to be held until here.
    os._exit(0)


def main() -> None:
    """The coordinator's process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # It ends when the run does.
    asyncio.run(_coordinate(args.port, args.count))


if __name__ == "__main__":
    main()
