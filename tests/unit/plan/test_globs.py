"""Globs of installed files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.plan.globs import matching

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
