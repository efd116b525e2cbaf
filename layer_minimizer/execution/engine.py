"""A container engine, through its own command line: docker or podman. No container outlives the call that made it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from layer_minimizer.core.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ENGINES = ("docker", "podman")
# How the clients end when the engine itself fails: https://docs.docker.com/engine/reference/run/#exit-status
ENGINE_FAILED = 125
SHOWN_LINES = 20
# sys.stderr may be replaced by something without a file descriptor, as in a notebook.
_STANDARD_ERROR = 2


@dataclass(frozen=True, slots=True)
class Engine:
    """The client program of an engine that answers."""

    program: str

    @classmethod
    def find(cls, name: str) -> Engine:
        """Return the engine ``docker`` or ``podman`` of this machine.

        Raises:
            RunnerError: it is not installed, or it does not answer.
        """
        program = shutil.which(name)
        if program is None:
            raise RunnerError(f"{name} is not installed here, or not on PATH")
        engine = cls(program)
        engine.answer("info", "--format", "{{json .}}", why=f"{name} does not answer; is its daemon running?")
        return engine

    def answer(self, *arguments: str, why: str = "", patience: float = 0.0) -> str:
        """Run a command of the engine's and give its standard output.

        One that is interrupted may still end by itself within ``patience`` seconds: what it has begun to make must be
        there, or never come.

        Raises:
            RunnerError: it failed; the text is ``why``, and what the engine said.
        """
        with self._client(arguments, subprocess.PIPE, subprocess.PIPE, patience=patience) as client:
            said, complaint = client.communicate()
        if client.returncode != 0:
            words = (complaint.strip() or said.strip()).decode(errors="replace")
            raise RunnerError(f"{why or self.described(arguments)}\n{tail(words)}")
        return said.decode(errors="replace").strip()

    def has_image(self, name: str) -> bool:
        """Return whether the engine has this image already."""
        with self._client(("image", "inspect", name), subprocess.DEVNULL, subprocess.DEVNULL) as client:
            return client.wait() == 0

    def follow(
        self, arguments: Sequence[str], *, stdout: int | IO[bytes], stderr: int | IO[bytes] = _STANDARD_ERROR
    ) -> int:
        """Run a command of the engine's while the user sees what it says, and give its exit code."""
        with self._client(arguments, stdout, stderr) as client:
            return client.wait()

    def listen(
        self,
        arguments: Sequence[str],
        hear: Callable[[bytes], None],
        *,
        stdout: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command of the engine's, hand over every line that it says, and give its exit code.

        Its standard output goes into ``stdout``; without one it counts as said.
        """
        streams = (subprocess.PIPE, subprocess.STDOUT) if stdout is None else (stdout, subprocess.PIPE)
        with self._client(arguments, *streams, environment=environment) as client:
            for line in client.stdout or client.stderr or ():
                hear(line)
            return client.wait()

    @contextmanager
    def reading(self, *arguments: str) -> Iterator[IO[bytes]]:
        """Run a command of the engine's and give its standard output as a stream.

        Raises:
            RunnerError: it failed; the text is what the engine said.
        """
        with tempfile.TemporaryFile() as words, self._client(arguments, subprocess.PIPE, words) as client:
            stream = cast("IO[bytes]", client.stdout)
            yield stream
            while stream.read(1 << 20):  # what ends an archive is nothing to its reader, but to its writer
                pass
            if client.wait() != 0:
                words.seek(0)
                raise RunnerError(f"{self.described(arguments)}\n{tail(words.read().decode(errors='replace').strip())}")

    @contextmanager
    def container(self) -> Iterator[str]:
        """Yield a name for a container; whatever happens, it is gone afterwards."""
        name = f"layer_minimizer-{uuid.uuid4().hex[:16]}"
        try:
            yield name
        finally:
            with self._client(("rm", "--force", "--volumes", name), subprocess.DEVNULL, subprocess.DEVNULL) as client:
                client.wait()

    def described(self, arguments: Sequence[str]) -> str:
        """Say which command of the engine's failed."""
        return f"{self.program} {arguments[0]} failed:"

    @contextmanager
    def _client(
        self,
        arguments: Sequence[str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the client where Ctrl-C does not reach it: this process decides what becomes of its containers."""
        command = [self.program, *arguments]
        try:
            client = subprocess.Popen(  # noqa: S603 - the engine that the user asked for
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as exc:
            raise RunnerError(f"cannot start {self.program}: {exc.strerror}") from exc
        try:
            yield client
        finally:
            if client.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(patience)
                client.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(10)
                client.kill()
            client.wait()


def tail(words: str) -> str:
    """Return the end of what a program said, where the reason stands."""
    return "\n".join(words.splitlines()[-SHOWN_LINES:])
