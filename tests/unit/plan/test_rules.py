"""Globs, and the shipped rules."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from layer_minimizer.plan import rules
from layer_minimizer.plan.rules import load_rules, matching

PATHS = ["a.py", "a/b.py", "a/c.txt", "a/d/e.py", "a/d/f/g.py", "ab/c.py", "x[1].txt", "a+b/c.py", "A/B.py"]


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("a.py", ["a.py"]),
        ("*.py", ["a.py"]),
        ("a/*.py", ["a/b.py"]),
        ("a/*/*.py", ["a/d/e.py"]),
        ("**/*.py", ["a.py", "a/b.py", "a/d/e.py", "a/d/f/g.py", "ab/c.py", "a+b/c.py", "A/B.py"]),
        ("a/**/*.py", ["a/b.py", "a/d/e.py", "a/d/f/g.py"]),
        ("a/**", ["a/b.py", "a/c.txt", "a/d/e.py", "a/d/f/g.py"]),
        ("a", ["a/b.py", "a/c.txt", "a/d/e.py", "a/d/f/g.py"]),
        ("a/", ["a/b.py", "a/c.txt", "a/d/e.py", "a/d/f/g.py"]),
        ("/a/d", ["a/d/e.py", "a/d/f/g.py"]),
        ("a?/c.py", ["ab/c.py"]),
        ("a?b.py", []),
        ("a/[bc].*", ["a/b.py", "a/c.txt"]),
        ("a/[!b].*", ["a/c.txt"]),
        ("a[!x]b.py", []),
        ("a+b/*", ["a+b/c.py"]),
        ("*/b.py", ["a/b.py"]),
        ("x[[]1].txt", ["x[1].txt"]),
        ("absent", []),
    ],
)
def test_globs(pattern: str, fitting: list[str]) -> None:
    assert matching(pattern, PATHS) == fitting


@given(
    st.lists(st.text("ab*?[]!-^\\./", max_size=4), max_size=3).map("".join),
    st.lists(st.text("ab/.[]!^-\\", max_size=5)),
)
def test_no_pattern_breaks_the_matching(pattern: str, paths: list[str]) -> None:
    assert set(matching(pattern, paths)) <= set(paths)


@given(st.text("ab/.+(){}^$|\\\n", min_size=1, max_size=8).filter(lambda path: path.strip("/") == path))
def test_a_pattern_without_wildcards_fits_itself_and_what_lies_below(path: str) -> None:
    assert matching(path, [path, f"{path}/x", f"{path}/x/y", f"{path}x", f"x/{path}"]) == [
        path, f"{path}/x", f"{path}/x/y"
    ]  # fmt: skip


def test_every_file_of_rules_loads() -> None:
    files = list(Path(rules.__file__).parent.glob("*.toml"))
    contents = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in files}
    assert contents
    assert all(data["distribution"] == canonicalize_name(stem) == stem for stem, data in contents.items())
    assert len(load_rules()) == sum(len(data["keep"]) for data in contents.values())


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: f"{rule.when}: {rule.files[0]}")
def test_a_rule_is_complete_and_names_its_source(rule: rules.Rule) -> None:
    assert re.search(r"https://\S+$", rule.because)
    assert not re.search(r"https?://", rule.because.replace("https://", "", 1))
    assert all(part.isidentifier() for part in rule.when.split("."))
    assert rule.files
    assert not [pattern for pattern in rule.files if pattern.startswith("/") or ".." in pattern.split("/")]
