"""The folder in /tmp in which cold files are restored: one for all processes of a user, and safe from others."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import ColdLayer


def report(layer: ColdLayer, path: str, size: int, why: str) -> str:
    return (
        f"layer_minimizer: cannot restore {path} of the layer in {layer.root}: it needs {size} bytes in "
        f"{layer.put_back}, and {why}; free or enlarge /tmp, or build the layer with an event that uses this file"
    )


def refused(layer: ColdLayer) -> str:
    return (
        f"layer_minimizer: {layer.put_back} belongs to another user, or others can use it, or it is no folder; the "
        f"layer in {layer.root} restores files there. Remove it, or give each user a /tmp of their own\n"
    )


def asked(layer: ColdLayer, code: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Run a program on the layer and whatever lies where its files are restored; ``R`` is the site folder in it."""
    text = f"import os\nR = {str(layer.root)!r}\n{textwrap.dedent(code)}"
    command = [*prefix, layer.python, "-B", "-c", text]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(layer.root)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


# ---- whose folder it is -------------------------------------------------------------------------------------------


def make_folder(layer: ColdLayer, _elsewhere: Path) -> None:
    layer.put_back.mkdir(mode=0o700)


def open_to_all(layer: ColdLayer, elsewhere: Path) -> None:
    make_folder(layer, elsewhere)
    layer.put_back.chmod(0o777)


def open_to_the_group(layer: ColdLayer, elsewhere: Path) -> None:
    make_folder(layer, elsewhere)
    layer.put_back.chmod(0o770)


def readable_by_others(layer: ColdLayer, elsewhere: Path) -> None:
    make_folder(layer, elsewhere)
    layer.put_back.chmod(0o755)


def of_somebody_else(layer: ColdLayer, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    make_folder(layer, elsewhere)
    os.chown(layer.put_back, 65534, 65534)


def a_link(layer: ColdLayer, elsewhere: Path) -> None:
    elsewhere.mkdir(mode=0o700)
    layer.put_back.symlink_to(elsewhere)


def a_file(layer: ColdLayer, _elsewhere: Path) -> None:
    layer.put_back.write_text("")


TAKEN = [open_to_all, open_to_the_group, readable_by_others, of_somebody_else, a_link, a_file]


@pytest.mark.parametrize("take", TAKEN)
def test_a_folder_that_others_could_have_made_is_refused(
    layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path, take: Callable[..., None]
) -> None:
    layer = layer_of(python, {"a.txt": "four", "m.py": "x = 1\n"})
    take(layer, tmp_path / "elsewhere")
    done = asked(layer, "print('ran')")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", refused(layer))
    assert not (tmp_path / "elsewhere").exists() or list((tmp_path / "elsewhere").iterdir()) == []


def test_files_that_somebody_has_put_there_before_are_not_used(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"a.txt": "right"})
    layer.put_back.mkdir()
    layer.put_back.chmod(0o777)
    (layer.put_back / "a.txt").write_text("wrong")
    done = asked(layer, "print(open(R + '/a.txt').read())")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", refused(layer))


def test_children_of_a_program_that_gave_up_its_rights_run(layer_of: Callable[..., ColdLayer], python: str) -> None:
    """The folder is root's, whom every user trusts; what is cold is out of their reach, and nothing else is."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(prefix="minimize-tests-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        layer = layer_of(python, {"a.txt": "four"}, root=top / "R")
        done = asked(
            layer,
            """
            import subprocess
            os.setuid(65534)
            print(subprocess.check_output(["echo", "ran"]).decode())
            try:
                open(R + "/a.txt")
            except PermissionError:
                print("refused")
            """,
        )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["ran", "refused"], "")


def test_nobody_can_make_it_once_the_layer_runs(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"a.txt": "right"})
    assert asked(layer, "").returncode == 0
    assert layer.put_back.stat().st_mode & 0o777 == 0o700
    assert os.listdir(layer.put_back) == [".root"]


def test_each_user_has_to_have_a_tmp_of_their_own(
    layer_of: Callable[..., ColdLayer], python: str, in_mounts: Callable[..., tuple[str, ...]]
) -> None:
    layer = layer_of(python, {"a.txt": "four"})
    assert asked(layer, "print(open(R + '/a.txt').read())").stdout == "four\n"
    os.utime(layer.put_back / "a.txt", (99, 99))
    apart = asked(
        layer,
        "print(open(R + '/a.txt').read(), os.stat(R + '/a.txt').st_mtime != 99)",
        *over_tmp(layer, in_mounts, "1m"),
    )
    assert apart.stdout == "four True\n", apart.stderr


# ---- room ---------------------------------------------------------------------------------------------------------


def over_tmp(
    layer: ColdLayer, in_mounts: Callable[..., tuple[str, ...]], size: str, options: str = ""
) -> tuple[str, ...]:
    """Return the prefix of a command that has another /tmp, in which the layer lies, too."""
    top = layer.root.parent
    script = (
        f"aside=$(mktemp -d /var/tmp/minimize-tests-XXXX)\nmount --bind {top} $aside\n"
        f"mount -t tmpfs -o size={size},mode=1777 none /tmp\nmkdir -p {top}\nmount --bind $aside {top}\n"
        f"umount $aside\nrmdir $aside\n{options}"
    )
    return in_mounts(script)


def test_a_full_tmp_is_said_with_the_bytes_that_it_takes(
    layer_of: Callable[..., ColdLayer], python: str, in_mounts: Callable[..., tuple[str, ...]]
) -> None:
    noise = random.Random(3).randbytes(400_000)
    layer = layer_of(python, {"big.bin": noise, "small.txt": "small", "lib/__init__.py": f"X = {noise[:90_000]!r}\n"})
    size = (layer.root.parent / "R.source/lib/__init__.py").stat().st_size
    done = asked(
        layer,
        """
        import errno
        for _ in "ab":
            for ask in (lambda: open(R + "/big.bin"), lambda: __import__("lib")):
                try:
                    ask()
                except OSError as exc:
                    assert exc.errno == errno.ENOSPC and not isinstance(exc, FileNotFoundError), exc
                else:
                    raise AssertionError
        # What has room is there, and nothing that is half.
        assert open(R + "/small.txt").read() == "small" and os.path.getsize(R + "/big.bin") == 400_000
        """,
        *over_tmp(layer, in_mounts, "120k"),
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {
        report(layer, "big.bin", 400_000, "no space is left"),
        report(layer, "lib/__init__.py", size, "no space is left"),
    }


def test_a_read_only_tmp_is_said(
    layer_of: Callable[..., ColdLayer], python: str, in_mounts: Callable[..., tuple[str, ...]]
) -> None:
    layer = layer_of(python, {"a.txt": "four"})
    done = asked(layer, "open(R + '/a.txt')", *over_tmp(layer, in_mounts, "1m", "mount -o remount,ro /tmp\n"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == report(layer, "a.txt", 4, "it is read-only")
    assert "OSError: [Errno 30] Read-only file system" in done.stderr


def test_a_limit_of_file_sizes_is_said(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"a.bin": random.Random(3).randbytes(9000)})
    done = asked(layer, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); open(R + '/a.bin')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == report(layer, "a.bin", 9000, "the file is too large")
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert layer.restored() == set()


def test_a_process_without_free_descriptors_says_so(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"a.txt": "four"})
    done = asked(
        layer,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        held = []
        try:
            while True:
                held.append(os.open("/", os.O_RDONLY))
        except OSError:
            pass
        for _ in "ab":  # no free one, then one: three are needed to restore a file
            try:
                open(R + "/a.txt")
            except OSError as exc:
                assert exc.errno == 24, exc
            else:
                raise AssertionError
            os.close(held.pop())
        os.close(held.pop()), os.close(held.pop()), os.close(held.pop())
        assert open(R + "/a.txt").read() == "four"
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [report(layer, "a.txt", 4, "too many open files")]


# ---- many processes -----------------------------------------------------------------------------------------------

COLD = {f"many/{number}.bin": random.Random(number).randbytes(20_000) for number in range(50)}
ASK = """
import hashlib, os, random, sys
names = ["many/%d.bin" % number for number in range(50)]
random.Random(int(sys.argv[1])).shuffle(names)
sums = {}
for name in names:
    with open(R + "/" + name, "rb") as file:
        sums[name] = hashlib.md5(file.read()).hexdigest()
print(hashlib.md5(repr(sorted(sums.items())).encode()).hexdigest())
"""


def test_a_process_that_is_killed_while_it_restores_leaves_nothing_that_counts(
    layer_of: Callable[..., ColdLayer], python: str
) -> None:
    layer = layer_of(python, {"big.bin": bytes(range(256)) * 200_000, "a.txt": "a"})
    whole = 256 * 200_000
    code = f"import sys; R = {str(layer.root)!r}; sys.path.insert(0, R); import _layer_minimizer as r; r.start()\n"
    command = [python, "-S", "-c", code + "print(len(open(R + '/big.bin', 'rb').read()))"]
    killed = halves = 0
    for wait in (0.0, 0.01, 0.02, 0.04, 0.08, 0.16):
        shutil.rmtree(layer.put_back, ignore_errors=True)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 20
            while not (layer.put_back / ".part").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        halves += (layer.put_back / ".part").exists()
        assert not (layer.put_back / "big.bin").exists() or (layer.put_back / "big.bin").stat().st_size == whole
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert (done.stdout, done.stderr) == (f"{whole}\n", "")
        assert layer.restored() == {"big.bin"}
        assert not (layer.put_back / ".part").exists()
    assert killed
    assert halves


def test_sixty_processes_of_which_a_third_is_killed(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, COLD)
    code = f"import sys; R = {str(layer.root)!r}; sys.path.insert(0, R); import _layer_minimizer as r; r.start()\n{ASK}"
    dice = random.Random(8)
    delays = [dice.uniform(0.02, 0.6) if number % 3 == 0 else None for number in range(60)]

    def ask(number: int) -> tuple[int, str, str]:
        command = [python, "-S", "-c", code, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            delay = delays[number]
            if delay is not None:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
            out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    with ThreadPoolExecutor(60) as pool:
        ended = list(pool.map(ask, range(60)))
    (right,) = {out for code, out, _ in ended if code == 0}
    assert len(right) == 33
    for delay, (status, _, err) in zip(delays, ended, strict=True):
        assert err == ""
        assert status == 0 or (delay is not None and status == -signal.SIGKILL), status
    assert sum(status != 0 for status, *_ in ended) > 5
    assert layer.restored() == set(COLD)
    assert {path: (layer.put_back / path).read_bytes() for path in COLD} == COLD
    assert sorted(os.listdir(layer.put_back)) == [".root", "many"]


def test_one_of_many_restores_each_file(layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path) -> None:
    layer = layer_of(python, {f"{n}.txt": str(n) for n in range(20)})
    log = tmp_path / "log"
    program = f"for n in range(20): assert open({str(layer.root)!r} + '/%d.txt' % n).read() == str(n)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(layer.root), "LAYER_MINIMIZER_LOG": str(log)}
    running = [subprocess.Popen([python, "-B", "-c", program], env=environment) for _ in range(10)]
    assert [process.wait(60) for process in running] == [0] * 10
    assert sorted(log.read_text().splitlines()) == sorted(f"restored file {n}.txt" for n in range(20))


# ---- layers that come and go --------------------------------------------------------------------------------------


def test_a_layer_finds_what_one_with_the_same_files_has_restored_that_is_gone(
    layer_of: Callable[..., ColdLayer], python: str
) -> None:
    layer = layer_of(python, {"d/a.txt": "a"}, {"d/kept.txt": "kept"})
    beside = f"open(R + '/d/a.txt'); print(open({str(layer.put_back)!r} + '/d/kept.txt').read())"
    assert asked(layer, beside).stdout == "kept\n"
    layer.root = layer.root.rename(layer.root.with_name("moved"))
    done = asked(layer, beside)
    assert (done.stdout, done.stderr) == ("kept\n", "")
    assert os.readlink(layer.put_back / ".root") == str(layer.root)
