"""The completion scripts, run in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.cli import help_text
from layer_minimizer.cli.commands import completion
from layer_minimizer.cli.parser import command_parser, parser_tree
from layer_minimizer.settings import Messages

if TYPE_CHECKING:
    from pathlib import Path


def script_of(shell: str) -> str:
    return "".join(completion.run(completion.CompletionOptions(shell), Messages(), parser=parser_tree()))


ASK = """
source <({tool} completion bash)
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
registered=$(complete -p minimize); [[ $registered =~ -F\\ ([^ ]+) ]]
"${{BASH_REMATCH[1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def need(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("handler.py", "reports/old.json", "event.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def complete(folder: Path, *words: str) -> set[str]:
    """Return what bash would offer for the last word."""
    script = ASK.format(tool=shlex.join([sys.executable, "-m", "layer_minimizer"]), words=shlex.join(words))
    command = [need("bash"), "--norc", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["p"], {"publish", "probe"}),
        (["--cold", ""], {"keep", "drop", "auto"}),
        (["--cold", "d"], {"drop"}),
        (["--runtime", "python3.1"], {f"python3.1{minor}" for minor in range(6)}),
        (["--entry", "h"], {"handler.py"}),
        (["--entry", "handler.py", "--event", "e"], {"event.json"}),
        (["--report", ""], {"reports"}),
        (["--strip", "x", "--lay"], {"--layer", "--layout"}),
        (["publish", "h"], {"handler.py"}),
        (["publish", "--arch"], {"--architecture"}),
        (["publish", "--architecture", ""], {"x86_64", "arm64"}),
        (["trace", "--obs"], {"--observe"}),
        (["trace", "--max"], set()),
        (["completion", ""], {"bash", "zsh", "tcsh"}),
        (["diff", "ev"], {"event.json"}),
        (["init", "--py"], {"--pyproject"}),
        (["help", "a"], {"architecture", "aws"}),
    ],
)
def test_bash(folder: Path, words: list[str], offered: set[str]) -> None:
    assert complete(folder, "minimize", *words) == offered


def test_bash_offers_every_command_and_every_option(folder: Path) -> None:
    assert complete(folder, "minimize", "") == set(help_text.COMMANDS)
    for command in ("", *help_text.COMMANDS):
        parser = command_parser(command)
        known = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
        assert complete(folder, "minimize", *([command] if command else []), "--") == known


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("minimize comp\t", "completion"),
        ("minimize publish --arch\t", "--architecture "),
        ("minimize --entry han\t", "handler.py"),
        ("minimize --layout f\t", "flat"),
    ],
)
def test_zsh(folder: Path, typed: str, shown: str) -> None:
    zsh = need("zsh")
    (folder / "_minimize").write_text(script_of("zsh"))
    number, terminal = pty.fork()
    if number == 0:
        os.chdir(folder)
        os.execve(zsh, [zsh, "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> ", "LC_ALL": "C.UTF-8"})
    try:
        os.write(terminal, f"fpath=($fpath {shlex.quote(str(folder))}); autoload -Uz compinit; ".encode())
        os.write(terminal, b"compinit -u -D; echo re''ady\n")
        said = until(terminal, "ready")
        os.write(terminal, typed.encode())
        assert shown in until(terminal, shown), said
    finally:
        os.kill(number, 9)
        os.waitpid(number, 0)
        os.close(terminal)


def until(terminal: int, word: str) -> str:
    said, end = "", time.monotonic() + 60
    while word not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 1 << 16).decode(errors="replace")
    return said


@pytest.mark.parametrize(("shell", "options"), [("bash", ["-n"]), ("zsh", ["-n"]), ("tcsh", ["-f"])])
def test_shells_read_their_scripts(folder: Path, shell: str, options: list[str]) -> None:
    script = folder / "script"
    script.write_text(script_of(shell))
    done = subprocess.run([need(shell), *options, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
