"""Python programs in processes of their own, which can be killed, without the seconds that imports take.

They are forked from a process that has imported the libraries we stand on, and nothing of ours: what a program does
with `selfembed` begins with importing it. Only packages that every verb needs are imported beforehand.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["sentence_transformers", "peft", "datasets"])
_TIMEOUT = 180.0  # seconds without a word


class Program:
    """A program that has been started; see `start`."""

    def __init__(self, code: str, arguments: tuple[str, ...], environment: Mapping[str, str], path: Sequence[str]):
        pipes = [_FORKS.Pipe(duplex=False) for _ in ("output", "errors")]
        self._readers = [reader for reader, _ in pipes]
        writers = [writer for _, writer in pipes]
        self._process = _FORKS.Process(target=_run, args=(code, arguments, dict(environment), tuple(path), writers))
        self._process.start()
        for writer in writers:
            writer.close()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        assert self._process.pid
        os.kill(self._process.pid, number)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Waits until it ends, and gives its status, output and errors."""
        said: dict[Connection, bytes] = dict.fromkeys(self._readers, b"")
        talking = list(self._readers)
        while talking:
            ready = wait(talking, _TIMEOUT)
            if not ready:
                self._process.kill()
                raise AssertionError(f"nothing said for {_TIMEOUT:.0f} seconds after {list(said.values())}")
            for reader in ready:
                assert isinstance(reader, Connection)
                part = os.read(reader.fileno(), 1 << 16)
                said[reader] += part
                if not part:
                    talking.remove(reader)
        self._process.join()
        output, errors = (text.decode() for text in said.values())
        status = self._process.exitcode
        assert status is not None
        return subprocess.CompletedProcess((), status, output, errors)


def start(
    code: str, *arguments: str, environment: Mapping[str, str] | None = None, path: Sequence[str] = ()
) -> Program:
    """Starts a program.

    Args:
        code: its text.
        *arguments: `sys.argv[1:]`.
        environment: all of its environment; None takes that of the tests as it is now.
        path: folders that come first where it imports from.
    """
    return Program(code, arguments, os.environ if environment is None else environment, path)


def run(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; see `start`."""
    return start(code, *arguments, **options).finish()  # type: ignore[arg-type]


def _run(code: str, arguments: tuple[str, ...], environment: dict[str, str], path: tuple[str, ...], writers) -> None:
    for number, writer in enumerate(writers, 1):
        os.dup2(writer.fileno(), number)
        writer.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = path
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
