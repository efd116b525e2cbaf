"""Runs the documentation's commands for settings, reports, completion and help literally."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.cli.deployment import TARGETS
from layer_minimizer.cli.help_text import COMMANDS
from tests.support.index import need_uv, served
from tests.support.places import EXAMPLES
from tests.support.pythons import need_python
from tests.support.sites import install

from . import documents
from .claims import Claim, walks
from .conftest import ALPHA, HANDLER
from .documents import MANUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cloud import Cloud

    from .conftest import Desk
    from .documents import Shown

# The layers are for the Python that runs the tests.
HERE = {"python3.12": f"python3.{sys.version_info.minor}"}
READS_ALPHA = "import alpha\n\n\ndef handler(event, context):\n    return alpha.read(event['kind'])\n"
READS_BETA = "import alpha, beta\n\n\ndef handler(event, context):\n    return beta.VALUE\n"


@walks("README.md", "~/minimizer/bin/minimize init")
@walks(f"{MANUAL}/settings.md", "minimize init\n")
@pytest.mark.parametrize("number", [0, 1])
def test_init(desk: Desk, shown: list[Shown], number: int) -> None:
    assert "Verified" in desk.run(shown[number]).out
    assert 'entry = "handler.py"' in (desk.folder / "layer_minimizer.toml").read_text()
    assert "alpha/png.pyc" in desk.names()


@walks(f"{MANUAL}/aws.md", "minimize init --for sam\n")
@walks("README.md", "minimize init --for sam")
def test_files_for_other_tools(desk: Desk, shown: list[Shown]) -> None:
    (table,) = [each for each in documents.read(f"{MANUAL}/aws.md").tables if each[0][0] == "`--for`"]
    assert [row[0].strip("`") for row in table[1:]] == list(TARGETS)
    desk.write({"requirements.txt": ""})
    manual, readme = shown
    assert manual.text.strip() == readme.text
    for row in table[1:]:
        target, files, then = row[0].strip("`"), re.findall("`([^`]+)`", row[1]), re.findall("`([^`]+)`", row[2])[0]
        printed = desk.shell(f"minimize init --for {target}").out if target != "sam" else desk.run(manual).out
        assert [line for line in printed.splitlines() if line in files] == sorted(files)
        assert then in printed
        assert all((desk.folder / name).is_file() for name in files)


@pytest.fixture
def project(desk: Desk, tmp_path: Path) -> Iterator[Desk]:
    """Yield a workspace with a project, its lock and its requirements, and an index that has the packages."""
    program = str(Path(need_uv()).parent)
    python = need_python("3.12")
    with served(tmp_path / "index") as index:
        digest = index.wheel("alpha", "1.0", ALPHA)
        index.wheel("beta", "1.0", {"beta.py": "VALUE = 1\n"})
        path = f"{desk.home}/minimizer/bin:{program}:{os.environ['PATH']}"
        desk.more |= {"UV_DEFAULT_INDEX": index.url, "UV_CACHE_DIR": str(tmp_path / "uv"), "PATH": path}
        desk.write(
            {
                "pyproject.toml": (
                    '[project]\nname = "thumbnails"\nversion = "1"\nrequires-python = ">=3.11"\n'
                    'dependencies = ["alpha"]\n[project.optional-dependencies]\nimages = ["beta"]\n'
                    '[dependency-groups]\nproduction = ["beta"]\n'
                ),
                "requirements.txt": f"alpha==1.0 --hash={digest}\n",
            }
        )
        desk.shell(f"uv lock --python {python}")
        yield desk


@walks(
    f"{MANUAL}/packages.md",
    "minimize --lock uv.lock --python-version 3.12",
    "minimize --lock uv.lock --extra images --group production",
    "minimize init\n",
    "from layer_minimizer import minimize",
)
def test_packages(project: Desk, shown: list[Shown]) -> None:
    both, chosen, init, in_python = shown
    assert project.run(both).out.count("Verified") == 2
    project.write({"handler.py": f"import beta\n{HANDLER}"})
    assert "Verified" in project.run(chosen).out
    assert "beta.pyc" in project.names()
    project.write({"handler.py": HANDLER})
    assert "lock: uv.lock" in project.run(init).err
    assert 'lock = "uv.lock"' in (project.folder / "layer_minimizer.toml").read_text()
    assert "alpha/png.pyc" in project.names()
    assert project.shell("~/minimizer/bin/python -", stdin=in_python.text).out.strip().isdecimal()


@walks(f"{MANUAL}/reports.md", "minimize --entry handler.py --event event.json --output layer.zip --report report")
def test_report(desk: Desk, shown: list[Shown]) -> None:
    desk.run(shown[0])
    assert json.loads((desk.folder / "report/report.json").read_text())["verified"] is True
    assert "<html" in (desk.folder / "report/report.html").read_text()[:500]


@walks(f"{MANUAL}/settings.md", "[tool.layer_minimizer]")
def test_table_of_settings(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    assert shown[0].info == "toml"
    desk.write(
        {
            "pyproject.toml": with_runtime_of_here(shown[0]),
            "src/handler.py": READS_ALPHA,
            "events/png.json": '{"kind": "png"}',
            "events/jpeg.json": '{"kind": "gif"}',
        }
    )
    assert "Verified: 2 events" in desk.shell("minimize").out
    assert {"alpha/png.pyc", "alpha/gif.pyc"} <= desk.names()
    aws.bucket("my-bucket")
    published = len(aws.versions("my-packages"))
    assert ":layer:my-packages:" in desk.shell("minimize publish").out
    assert len(aws.versions("my-packages")) == published + 1


def with_runtime_of_here(shown: Shown) -> str:
    (old, new), *_ = HERE.items()
    assert old in shown.text
    return shown.text.replace(old, new)


@walks(
    f"{MANUAL}/settings.md",
    'python = ".venv/bin/python"\n',
    "minimize                             # api.zip and worker.zip",
)
def test_several_layers(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    desk.shell("minimize --entry handler.py --event event.json --python .venv/bin/python --output torch.zip")
    install(next(desk.folder.glob(".venv/lib/*/site-packages")), "beta", {"beta.py": "VALUE = 1\n"})
    desk.write(
        {
            "layer_minimizer.toml": with_runtime_of_here(shown[0]),
            "api/handler.py": READS_ALPHA,
            "api/event.json": '{"kind": "png"}',
            "worker/handler.py": READS_BETA,
            "worker/event.json": "{}",
        }
    )
    output = desk.run(shown[1]).out
    assert output.count("Verified") == 2 + 1 + 2
    assert ":layer:worker-packages:1" in output
    assert aws.versions("worker-packages")
    assert "alpha/png.pyc" in desk.names("api.zip")
    assert "beta.pyc" in desk.names("worker.zip")
    for name in ("api", "worker"):
        assert (desk.folder / f"reports/{name}/report.html").is_file()


@walks(f"{MANUAL}/settings.md", "source <(minimize completion bash)")
def test_completion(desk: Desk, shown: list[Shown]) -> None:
    # The second line is for zsh, in which fpath[1] is the first folder; in bash it is the second.
    (desk.folder / "functions").mkdir()
    ended = desk.shell(f"fpath=(. functions)\n{shown[0].text}\ncomplete -p minimize")
    assert ended.out.strip().endswith(" minimize")
    assert "#compdef minimize" in (desk.folder / "functions/_minimize").read_text()


@walks("README.md", "minimize --help")
@walks(f"{MANUAL}/options.md", "minimize --help", "minimize COMMAND --help", "minimize --help-all")
def test_help(desk: Desk, shown: list[Shown]) -> None:
    first, short, of_command, everything = shown
    assert first.text == short.text
    assert len(desk.run(short).out) < len(desk.run(everything).out)
    for command in COMMANDS:
        assert f"minimize {command}" in desk.run(of_command, {"COMMAND": command}).out


@walks("README.md", "minimize help", "minimize help TOPIC")
def test_manual(desk: Desk, shown: list[Shown]) -> None:
    listing, page = shown
    listed = desk.run(listing).out
    pages = sorted(path.stem for path in (documents.CHECKOUT / MANUAL).glob("*.md"))
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ")] == pages
    for topic in pages:
        title, *_ = documents.read(f"{MANUAL}/{topic}.md").headings
        assert title in listed
        assert f"# {title}\n" in desk.run(page, {"TOPIC": topic}).out


DIFF = "minimize diff old/report.json new/report.json"


@walks(f"{MANUAL}/reports.md", f"{DIFF}\n")
@walks(f"{MANUAL}/options.md", f"{DIFF} --fail-above 5%")
def test_comparing_builds(
    desk: Desk, requirements_env: Callable[[str, Path], Path], tmp_path: Path, shown: list[Shown]
) -> None:
    """Makes the documented change: a WebP image in addition to the PNG and the JPEG."""
    example = EXAMPLES / "quickstart"
    python = requirements_env("quickstart", example / "requirements.txt")
    desk.folder = tmp_path / "thumbnails"
    desk.write({"handler.py": (example / "handler.py").read_text()})
    for name, formats in (("old", '("PNG", "JPEG")'), ("new", '("PNG", "JPEG", "WEBP")')):
        script = re.sub(r"(?m)^FORMATS = .*$", f"FORMATS = {formats}", (example / "make_events.py").read_text())
        assert formats in script
        desk.write({"make_events.py": script})
        subprocess.run([python, "-I", desk.folder / "make_events.py", desk.folder / f"{name}.json"], check=True)
        desk.shell(f"minimize --python {python} --entry handler.py --event {name}.json --report {name}")
    printed = desk.run(shown[0]).out
    sample = Claim(f"{MANUAL}/reports.md", "6.5 MB → 7.1 MB unzipped").find().text
    assert shape(printed) == shape(sample)
    ended = desk.shell(f"{shown[1].text} || test $? = 9")
    assert "grown" in ended.err


def shape(text: str) -> list[str]:
    """Return the lines without their figures, which depend on processor and system."""
    figures = r"[-+]?[\d.,]+ ?(?:%|MB|kB)|\b\d+ more|(?<=own files\)) (?:grew|shrank)"
    return [re.sub(figures, "N", line.strip()) for line in text.strip().splitlines()]
