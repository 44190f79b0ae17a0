"""What libraries beside a FHIR server ask of CPython, each by itself: prints its name and ok, or what went wrong.

py_calls.py [NAME ADDRESS]
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging.handlers
import mmap
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

DIR = Path(tempfile.mkdtemp())


def files() -> None:
    """Creates, lists, copies, moves, removes."""
    (DIR / "a").write_text("text")
    shutil.copy(DIR / "a", DIR / "b")
    shutil.copy2(DIR / "a", DIR / "c")
    (DIR / "b").rename(DIR / "d")
    (DIR / "a").chmod(0o600)
    os.utime(DIR / "a", (1, 1))
    os.access(DIR / "a", os.R_OK)
    shutil.copytree(DIR, DIR / "tree" / "copy", ignore=shutil.ignore_patterns("tree"))
    shutil.rmtree(DIR / "tree")
    shutil.disk_usage(DIR)
    with (DIR / "m").open("w+b") as file:
        file.truncate(1 << 16)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[0] = 1
            memory.flush()
        os.fsync(file.fileno())


def database() -> None:
    """SQLite on a file, with its write-ahead log."""
    with sqlite3.connect(DIR / "db") as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (a)")
        connection.execute("insert into t values (1)")
    connection.close()


def processes() -> None:
    """Child processes and a pool of them."""
    subprocess.run([sys.executable, "-c", "pass"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    subprocess.run([sys.executable, "-c", "pass"], check=True, start_new_session=True, cwd="/")
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


def forks() -> None:
    """Workers as uvicorn and gunicorn start them."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def threads() -> None:
    """Threads, timers, signals."""
    done = threading.Event()
    threading.Timer(0.01, done.set).start()
    assert done.wait(5)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(time.sleep, [0.01] * 8))
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen


def sockets() -> None:
    """TCP over IPv4 and IPv6, UDP, UNIX, TLS contexts."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with (
            socket.create_server((address, 0), family=family) as server,
            socket.create_connection(server.getsockname()[:2]) as client,
        ):
            peer, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.sendmsg([b"a", b"b"])
            assert peer.recv(10)
            assert peer.getpeername()
            peer.close()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(DIR / "socket"))
        server.listen()
    ssl.create_default_context()


def loop() -> None:
    """asyncio: streams, child processes, signals."""

    async def work() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
        assert await child.wait() == 0
        await asyncio.to_thread(time.sleep, 0.01)

    asyncio.run(work())


def names() -> None:
    """Name look-ups."""
    for name, address in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        assert socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0] == address
        assert socket.gethostbyname(name) == address


def system() -> None:
    """The machine, random numbers, logging."""
    os.cpu_count(), os.getloadavg(), os.sched_getaffinity(0), os.times(), os.uname(), os.getgroups()
    uuid.uuid1(), uuid.uuid4(), os.urandom(8)
    handler = logging.handlers.RotatingFileHandler(DIR / "log", maxBytes=10, backupCount=1)
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "a line longer than ten"}))
    handler.close()


def main() -> None:
    """The program."""
    steps: list[Callable[[], None]] = [files, database, processes, forks, threads, sockets, loop, names, system]
    for step in steps:
        try:
            step()
            print(step.__name__, "ok", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is printed
            print(step.__name__, repr(error), flush=True)
    shutil.rmtree(DIR)
    print("end")


if __name__ == "__main__":
    main()
