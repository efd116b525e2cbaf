"""Everything in the documentation is tested: commands, options, exit codes, names, links."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.cli.help_text import COMMANDS
from layer_minimizer.cli.parser import command_parser
from layer_minimizer.core import errors
from layer_minimizer.model.plan import Reason
from tests.support.places import PROGRAMS
from tests.support.sites import write_files
from tests.system.examples.test_examples import NAMES

from . import (
    documents,
    test_aws_walks,
    test_container_walks,
    test_emulation_walks,
    test_settings_walks,
    test_walks,
    test_workflows,
)
from .claims import ELSEWHERE, NOT_RUN, SAMPLES, WALKS, Claim
from .conftest import ALPHA, FILES
from .documents import CHECKOUT, DOCUMENTS, MANUAL, Shown, anchor, is_command, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.sites import Environment

# Importing them registers their claims.
MODULES = (
    test_walks,
    test_aws_walks,
    test_settings_walks,
    test_container_walks,
    test_emulation_walks,
    test_workflows,
)
# Options of other programs and of an example; --proofs and --turn belong to the tests (tests/support/selection.py).
FOREIGN = {
    "--add-data", "--build-arg", "--force-reinstall", "--include-path", "--no-cache-dir", "--no-cached", "--proofs",
    "--strip", "--turn", "--without-torch",
}  # fmt: skip
# A placeholder such as NAME or "…"; 1GB is a value.
PLACEHOLDERS = re.compile(r"…|(?<!\w)[A-Z]{2,}(?!\w)")


# ---- commands -------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    """Return the commands of a text, each on one line and without comment."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()) if line]


def is_walked(shown: Shown, claim: Claim) -> bool:
    """Return whether a walk runs this code, or a block that contains this command."""
    if not claim.fits(shown):
        return False
    try:
        walked = claim.find().text
    except LookupError:
        return False
    return shown.text == walked or shown.text in lines_of(walked)


def is_name(text: str) -> bool:
    """Return whether a text is only the name of a command, with options but without values."""
    words = text.split()
    return words[0] == "minimize" and words[1] in COMMANDS and all(word.startswith("-") for word in words[2:])


def is_tested(shown: Shown) -> bool:
    if any(is_walked(shown, claim) for claim in WALKS):
        return True
    if shown.recorded or test_workflows.is_workflow(shown):
        return True
    if shown.text.startswith(tuple(SAMPLES)):
        return not any(is_command(line) for line in shown.text.splitlines())
    if len(lines_of(shown.text)) == 1 and is_command(shown.text) and is_name(shown.text):
        return True
    return all(line in ELSEWHERE or line in NOT_RUN for line in lines_of(shown.text))


def untested(found: tuple[Shown, ...]) -> list[str]:
    return [str(shown) for shown in found if not is_tested(shown)]


def commands() -> tuple[Shown, ...]:
    return (*documents.blocks(), *(span for span in documents.spans() if is_command(span.text)))


def test_every_command_is_run_by_a_test() -> None:
    left = untested(commands())
    assert not left, (
        "no test runs these; claim them with @walks in tests/system/docs/test_walks.py, or name in "
        "tests/system/docs/claims.py the test that runs them, or the reason why none does:\n" + "\n".join(left)
    )


@pytest.mark.parametrize(
    "text",
    [
        "    minimize --entry other.py\n",
        "```sh\naws s3 ls\n```\n",
        "Run `minimize trace --entry other.py`.\n",
        "Run `minimize probe probe.zip --quiet`.\n",
        "    ./examples/quickstart/run.sh\n    rm -r /\n",
        "    only in tuesday.trace: a\n    minimize --entry x\n",
    ],
)
def test_a_command_without_a_test_is_found(text: str) -> None:
    found = documents.parse("README.md", f"Text.\n\n{text}")
    shown = (*found.blocks, *(span for span in found.spans if is_command(span.text)))
    (left,) = untested(shown)
    assert left.startswith("README.md:")
    assert text.split("`" if "`" in text else "\n")[1 if text[0] in "`R" else 0].strip() in left


def test_every_claim_is_of_something() -> None:
    for claim in (*WALKS, *(claim_of_sample(beginning) for beginning in SAMPLES)):
        claim.find()
    shown = {line for found in (*documents.blocks(), *documents.spans()) for line in lines_of(found.text)}
    assert [text for text in (*ELSEWHERE, *NOT_RUN) if text not in shown] == []


def claim_of_sample(beginning: str) -> Claim:
    files = [shown.file for shown in documents.blocks() if shown.text.startswith(beginning)]
    assert files, f"nothing begins with {beginning!r}"
    return Claim(files[0], beginning)


def test_tests_elsewhere_are_there() -> None:
    for text, test in ELSEWHERE.items():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (CHECKOUT / file).read_text(), test
        if text.startswith("./examples/"):
            assert text.split("/")[2] in NAMES


# ---- options --------------------------------------------------------------------------------------------------------


def actions() -> dict[str, list[argparse.Action]]:
    found: dict[str, list[argparse.Action]] = {}
    parsers = [command_parser(command) for command in ("", *COMMANDS)]
    for parser in parsers:
        for action in parser._actions:
            for option in action.option_strings:
                found.setdefault(option, []).append(action)
    return found


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line, each with its value or the next argument."""
    words = shlex.split(re.sub(r"\\\n", " ", text), comments=True)
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--") and len(word) > len("--"):
            name, _, value = word.partition("=")
            yield name, value or ("" if after.startswith("-") else after)


def problem_of(name: str, value: str) -> str:
    """Return what is wrong with an option, or an empty string."""
    known = actions().get(name, [])
    if not known:
        return f"unknown option {name}"
    if not value or PLACEHOLDERS.search(value) or any(action.nargs == 0 for action in known):
        return ""
    for action in known:
        try:
            argparse.ArgumentParser()._get_values(action, [value])
        except argparse.ArgumentError as exc:
            problem = str(exc)
        else:
            return ""
    return problem


def option_spans() -> list[Shown]:
    ours = ("--", "minimize ", "./examples/", "~/minimizer/bin/minimize ")
    return [shown for shown in (*documents.spans(), *documents.blocks()) if shown.text.startswith(ours)]


def test_options_are_known_and_take_these_values() -> None:
    wrong = []
    for shown in option_spans():
        for name, value in pairs(shown.text):
            if name not in FOREIGN and (problem := problem_of(name, value)):
                wrong.append(f"{shown}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_an_unknown_option_or_value_is_found() -> None:
    assert problem_of("--colder", "") == "unknown option --colder"
    assert "it must be one of keep, drop, auto" in problem_of("--cold", "warm")
    assert "it must be a size: 250MB" in problem_of("--max-size", "1XB")
    assert not problem_of("--explain", "NAME")
    assert len(option_spans()) > 50


# ---- tables and samples ---------------------------------------------------------------------------------------------


def exit_codes() -> set[int]:
    classes, codes = [errors.MinimizeError], set()
    while classes:
        for each in classes.pop().__subclasses__():
            classes.append(each)
            codes.add(each.exit_code)
    return codes


def test_exit_codes() -> None:
    tables = [table for table in documents.read(f"{MANUAL}/options.md").tables if table[0] == ("code", "meaning")]
    (table,) = tables
    listed = [int(code) for code, _ in table[1:]]
    assert sorted(listed) == sorted({0, 1, 130, *exit_codes()})
    text = (CHECKOUT / "layer_minimizer/core/errors.py").read_text()
    assert "130 interrupted" in text


def test_reasons() -> None:
    tables = [table for table in documents.read(f"{MANUAL}/reports.md").tables if table[0][0] == "reason"]
    listed = [row[0].strip("`") for table in tables for row in table[1:]]
    assert sorted(listed) == sorted(Reason)


def test_values_of_cold() -> None:
    (table,) = [table for table in documents.read(f"{MANUAL}/contents.md").tables if table[0][0] == "`--cold`"]
    action = actions()["--cold"][0]
    assert {row[0].strip("`") for row in table[1:]} == set(action.choices or ())


def test_names_of_the_report(env: Environment, tmp_path: Path) -> None:
    sample = Claim(f"{MANUAL}/reports.md", '{"format": 1,').find()
    env.install("alpha", ALPHA)
    write_files(tmp_path, FILES)
    command = [
        PROGRAMS / "minimize",
        "--python",
        env.python,
        "--entry",
        "handler.py",
        "--event",
        "event.json",
        "--json",
    ]
    made = subprocess.run([*command, "--effort", "0", "--json"], cwd=tmp_path, check=True, capture_output=True)
    report = json.loads(made.stdout)
    documented = names_in(sample.text)
    assert set(documented) == set(report)
    for name, inner in documented.items():
        found = report[name][0] if report[name] and isinstance(report[name], list) else report[name]
        if inner and isinstance(found, dict):
            assert set(inner) == set(found), name


def test_excerpt_of_the_script() -> None:
    file = "examples/fastai_v1_vision/README.md"
    excerpt = Claim(file, "# Load the model\n").find().text
    assert excerpt in (CHECKOUT / "examples/fastai_v1_vision/predict.py").read_text()


def test_variables_are_read_by_the_code() -> None:
    sources = "\n".join(
        path.read_text()
        for folder in ("layer_minimizer", "examples")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in {".py", ".c", ".h", ".sh"} and "out" not in path.parts
    )
    for span in documents.spans():
        for name in re.findall(r"\bLAYER_MINIMIZER_[A-Z_]+\b", span.text):
            assert name in sources, f"{span}: no code reads {name}"


def test_extras_exist() -> None:
    extras = set(importlib.metadata.metadata("layer_minimizer").get_all("Provides-Extra") or ())
    for shown in (*documents.blocks(), *documents.spans()):
        named = re.findall(r"(?:'\.|'layer_minimizer)\[(\w+)\]", shown.text)
        assert set(named) <= extras, str(shown)


def test_the_readme_is_short_and_names_every_page_of_the_manual() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 150
    linked = {link.text.partition("#")[0] for link in documents.read("README.md").links}
    assert {file for file in DOCUMENTS if file.startswith(MANUAL)} <= linked


@pytest.mark.parametrize("file", DOCUMENTS)
def test_links_lead_somewhere(file: str) -> None:
    for link in documents.read(file).links:
        path, _, name = link.text.partition("#")
        if "://" in path:
            continue
        target = (CHECKOUT / file).parent / path if path else CHECKOUT / file
        assert target.exists(), str(link)
        if name:
            other = str(target.resolve().relative_to(CHECKOUT))
            assert name in {anchor(heading) for heading in documents.read(other).headings}, str(link)


def test_paths_exist() -> None:
    """Paths of this project in inline code exist."""
    for span in documents.spans():
        if re.fullmatch(r"(?:tests|layer_minimizer|examples|docker)/[\w./]+", span.text) and "_layer" not in span.text:
            assert (CHECKOUT / span.text).exists() or span.text.startswith("layer_minimizer/image"), str(span)
