"""The reader of import statements, with real source files, compared with real interpreters where possible."""

import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.analysis.imports import ImportStatement, not_exercised, read_imports, targets
from layer_minimizer.model.plan import NotExercised

IDENTIFIERS = st.from_regex(r"[a-z]{2}[0-9]", fullmatch=True)
DOTTED = st.lists(IDENTIFIERS, min_size=1, max_size=3).map(".".join)


def read(tmp_path: Path, text: str, name: str = "pkg.mod", *, is_package: bool = False) -> tuple[ImportStatement, ...]:
    source = tmp_path / "source.py"
    source.write_text(textwrap.dedent(text))
    return read_imports(name, source, is_package=is_package)


def statement(name: str, names: Iterable[str] = (), importer: str = "m", line: int = 1) -> ImportStatement:
    return ImportStatement(importer, name, tuple(names), line, conditional=False, function=False, tryexcept=False)


# With the second line the source is one for CPython 3.6, and is read from its tokens.
@pytest.mark.parametrize("last", ["", "async = await = 1\n"])
def test_every_kind_of_statement_is_read_with_its_line_and_context(tmp_path: Path, last: str) -> None:
    found = read(
        tmp_path,
        """\
        import a, b.c as d
        from e.f import y, x as z
        from g import *
        if True:
            import in_if
        else:
            import in_else
        def function():
            import in_function
            async def inner():
                try:
                    import in_try
                except ImportError:
                    import in_handler
        try:
            pass
        except* ValueError:
            pass
        else:
            import in_star
        match a:
            case 1:
                import in_case
        class Body:
            with a:
                for _ in b:
                    import in_body
        """
        + last,
    )
    rows = [(s.name, s.names, s.line, s.conditional, s.function, s.tryexcept) for s in found]
    assert rows == [
        ("a", (), 1, False, False, False),
        ("b.c", (), 1, False, False, False),
        ("e.f", ("x", "y"), 2, False, False, False),
        ("g", (), 3, False, False, False),
        ("in_if", (), 5, True, False, False),
        ("in_else", (), 7, True, False, False),
        ("in_function", (), 9, False, True, False),
        ("in_try", (), 12, False, True, True),
        ("in_handler", (), 14, False, True, True),
        ("in_star", (), 20, False, False, True),
        ("in_case", (), 23, True, False, False),
        ("in_body", (), 27, False, False, False),
    ]
    assert {s.importer for s in found} == {"pkg.mod"}


@pytest.mark.parametrize(
    ("name", "is_package", "expected"),
    [
        ("p.q", False, ["p", "p.x"]),
        ("p.q", True, ["p.q", "p.q.x", "p", "p.y"]),
        ("p", False, []),
        ("p", True, ["p", "p.x"]),
    ],
)
def test_relative_imports_are_resolved_and_those_above_the_top_are_omitted(
    tmp_path: Path, name: str, expected: list[str], *, is_package: bool
) -> None:
    found = read(
        tmp_path,
        "from . import a\nfrom .x import b\nfrom .. import c\nfrom ..y import d\n",
        name,
        is_package=is_package,
    )
    assert [s.name for s in found] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"import a\nrun(async=True)\nawait = 1\n", ["a"]),  # Python 3.6
        (b"if async: import a; import b\nelse: import c\nmatch = lambda: 0\nmatch[case:1]\n", ["a", "b", "c"]),
        (b"if x:\n  if y: pass\nimport a\nprint(async)\ndef f(a=lambda: 1): import b\n", ["a", "b"]),
        (b"import a\ntype A[T] = list[T]\ndef f[T](x: T): from b import c\n", ["a", "b"]),  # 3.12
        (b"import a\nx = f'{y['z']}'\n", ["a"]),  # 3.12
        (b"try: import a\nexcept A, B: import b\nx = t'{a}'\n", ["a", "b"]),  # 3.14
        (b"lazy import a.b as c\nlazy from d import (\n  e,\n  f)\n", ["a.b", "d"]),  # 3.15
        (b"\xef\xbb\xbfimport a\n", ["a"]),
        (b"# -*- coding: latin-1 -*-\nimport a\ntext = '\xe9'\n", ["a"]),
        (b"import a\r\nimport b\r\n", ["a", "b"]),
        (b"import a\npattern = '\\d'\nis_same = 1 is 1", ["a"]),  # each warns
        (b"if x:\n    import a\n" + b"elif y:\n    import b\n" * 900, ["a"] + ["b"] * 900),
    ],
)
def test_sources_of_every_version_and_encoding_are_read(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    source = tmp_path / "source.py"
    source.write_bytes(content)
    assert [s.name for s in read_imports("m", source, is_package=False)] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"import a\nprint 'Python 2'\n",
        b"import a\nexec code in names\n",
        b"import a\nasync = 1\n  indented = 1\n",
        b"import a\nasync = 1\n  )\n",
        b"import a\ntext = '\xe9'\n",
        b"import a\n\x00\n",
        b"# coding: no-such-encoding\nimport a\n",
        b"import a\nx = " + b"(" * 5000 + b")" * 5000,
        b"import a\nx = " + b"-" * 100_000 + b"1",
        b"",
    ],
)
def test_invalid_sources_have_no_statements(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source.py"
    source.write_bytes(content)
    assert read_imports("m", source, is_package=False) == ()


def test_files_without_source_have_no_statements(tmp_path: Path) -> None:
    library = tmp_path / "m.so"
    library.write_text("import a\n")
    assert read_imports("m", library, is_package=False) == ()
    assert read_imports("m", tmp_path / "absent.py", is_package=False) == ()
    assert read_imports("m", tmp_path, is_package=True) == ()


@given(st.lists(st.tuples(DOTTED, st.lists(IDENTIFIERS, unique=True, max_size=3)), max_size=8))
def test_what_was_written_is_what_is_read(rows: list[tuple[str, list[str]]]) -> None:
    lines = [f"from {name} import {', '.join(names)}" if names else f"import {name}" for name, names in rows]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "m.py")
        source.write_text("\n".join(lines))
        found = read_imports("m", source, is_package=False)
    assert found == tuple(statement(name, sorted(names), line=line) for line, (name, names) in enumerate(rows, 1))


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        (statement("a.b"), ("a", "a.b")),
        (statement("a", ["b", "function"]), ("a", "a.b")),
        (statement("a.b", ["c"]), ("a", "a.b")),
        (statement("ns.part"), ("ns.part",)),
        (statement("absent", ["b"]), ()),
    ],
)
def test_targets_are_the_available_modules_that_a_statement_names(
    imported: ImportStatement, expected: tuple[str, ...]
) -> None:
    assert targets(imported, {"a", "a.b", "ns.part"}) == expected


def test_not_exercised_names_each_untraced_module_once_by_its_first_importer() -> None:
    statements = [
        statement("lazy", importer="z", line=3),
        statement("lazy", importer="k", line=9),
        statement("lazy", importer="k", line=2),
        statement("seen", importer="k", line=4),
        statement("not_installed", importer="k", line=5),
        statement("itself", ["part"], importer="itself", line=1),
    ]
    found = not_exercised(statements, {"lazy", "seen", "itself", "itself.part"}, {"seen"})
    assert found == (NotExercised("itself.part", "itself", 1), NotExercised("lazy", "k", 2))
