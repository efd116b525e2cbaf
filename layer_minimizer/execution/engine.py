"""Call docker or podman through their command line. Containers are removed when the call that made them returns."""

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
# Exit code of the clients when the engine itself fails: https://docs.docker.com/engine/reference/run/#exit-status
ENGINE_FAILED = 125
SHOWN_LINES = 20
# sys.stderr may be replaced by something without a file descriptor, as in a notebook.
_STANDARD_ERROR = 2


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine whose daemon responds.

    ``program`` is the path of its command-line client.
    """

    program: str

    @classmethod
    def find(cls, name: str) -> Engine:
        """Return the engine ``docker`` or ``podman`` of this machine.

        Raises:
            RunnerError: it is not installed, or its daemon does not respond.
        """
        program = shutil.which(name)
        if program is None:
            raise RunnerError(f"{name} is not installed here, or not on PATH")
        engine = cls(program)
        engine.read_output("info", "--format", "{{json .}}", why=f"{name} does not answer; is its daemon running?")
        return engine

    def read_output(self, *arguments: str, why: str = "", grace_seconds: float = 0.0) -> str:
        """Run a command of the engine and return its standard output.

        After an interrupt the client may still end by itself within ``grace_seconds``, so that a container which it is
        creating either exists, and can be removed, or is never created.

        Raises:
            RunnerError: the command failed; the message is ``why`` and the engine's own output.
        """
        with self._client(arguments, subprocess.PIPE, subprocess.PIPE, grace_seconds=grace_seconds) as client:
            output, errors = client.communicate()
        if client.returncode != 0:
            message = (errors.strip() or output.strip()).decode(errors="replace")
            raise RunnerError(f"{why or self._failure(arguments)}\n{tail(message)}")
        return output.decode(errors="replace").strip()

    def has_image(self, name: str) -> bool:
        """Return whether this image is present locally."""
        with self._client(("image", "inspect", name), subprocess.DEVNULL, subprocess.DEVNULL) as client:
            return client.wait() == 0

    def run(
        self, arguments: Sequence[str], *, stdout: int | IO[bytes], stderr: int | IO[bytes] = _STANDARD_ERROR
    ) -> int:
        """Run a command of the engine, with its output sent to the given streams; return its exit code."""
        with self._client(arguments, stdout, stderr) as client:
            return client.wait()

    def run_with_output(
        self,
        arguments: Sequence[str],
        on_line: Callable[[bytes], None],
        *,
        stdout: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command of the engine, call ``on_line`` with each line of its output, and return its exit code.

        If ``stdout`` is given, standard output goes there, and only the lines of standard error are passed on.
        """
        streams = (subprocess.PIPE, subprocess.STDOUT) if stdout is None else (stdout, subprocess.PIPE)
        with self._client(arguments, *streams, environment=environment) as client:
            for line in client.stdout or client.stderr or ():
                on_line(line)
            return client.wait()

    @contextmanager
    def stream_output(self, *arguments: str) -> Iterator[IO[bytes]]:
        """Run a command of the engine and yield its standard output as a stream.

        Raises:
            RunnerError: the command failed; the message contains the engine's own output.
        """
        with tempfile.TemporaryFile() as errors, self._client(arguments, subprocess.PIPE, errors) as client:
            stream = cast("IO[bytes]", client.stdout)
            yield stream
            while stream.read(1 << 20):  # tar pads archives; the client fails if that padding is not read
                pass
            if client.wait() != 0:
                errors.seek(0)
                message = errors.read().decode(errors="replace").strip()
                raise RunnerError(f"{self._failure(arguments)}\n{tail(message)}")

    @contextmanager
    def container_name(self) -> Iterator[str]:
        """Yield an unused container name, and remove the container of that name afterwards."""
        name = f"layer_minimizer-{uuid.uuid4().hex[:16]}"
        try:
            yield name
        finally:
            with self._client(("rm", "--force", "--volumes", name), subprocess.DEVNULL, subprocess.DEVNULL) as client:
                client.wait()

    def _failure(self, arguments: Sequence[str]) -> str:
        """Return the first line of an error message: which command of the engine failed."""
        return f"{self.program} {arguments[0]} failed:"

    @contextmanager
    def _client(
        self,
        arguments: Sequence[str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        *,
        environment: Mapping[str, str] | None = None,
        grace_seconds: float = 0.0,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the client in a session of its own, since Ctrl-C must not end it before its container is removed."""
        command = [self.program, *arguments]
        try:
            client = subprocess.Popen(  # noqa: S603 - the engine that the user chose
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
                    client.wait(grace_seconds)
                client.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(10)
                client.kill()
            client.wait()


def tail(output: str) -> str:
    """Return the last lines of a program's output, which usually contain the reason of a failure."""
    return "\n".join(output.splitlines()[-SHOWN_LINES:])
