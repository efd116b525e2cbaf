"""Names of modules and of their files, checked against what Python imports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.model.modules import by_name, is_package, module_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.py", "a"),
        ("a/b/c.py", "a.b.c"),
        ("a/__init__.py", "a"),
        ("a/b/__init__.pyc", "a.b"),
        ("a/b.pyc", "a.b"),
        ("a/ext.cpython-311-x86_64-linux-gnu.so", "a.ext"),
        ("a/ext.abi3.so", "a.ext"),
        ("a/ext.so", "a.ext"),
        ("a/__init__.cpython-36m-x86_64-linux-gnu.so", "a"),
        ("a/data.txt", ""),
        ("a/libfoo.so.1", ""),
        ("a-b/c.py", ""),
        ("a/2c.py", ""),
        ("a-1.0.dist-info/METADATA", ""),
        ("pkg.libs/libx-1.so", ""),
        ("a.pyi", ""),
        ("a/.py", ""),
        ("py", ""),
        ("", ""),
    ],
)
def test_a_file_has_the_name_under_which_it_is_imported(path: str, name: str) -> None:
    assert module_name(path) == name


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("a/__init__.py", True), ("__init__.py", True), ("a/__init__.abi3.so", True), ("a/init.py", False),
        ("a/__init__x.py", False), ("__init__/a.py", False),
    ],
)  # fmt: skip
def test_packages_and_modules_are_distinguished(path: str, package: bool) -> None:  # noqa: FBT001
    assert is_package(path) is package


@given(st.lists(st.text("ab_/.so-py", max_size=12)))
def test_any_paths_have_names_that_lead_back_to_them(paths: list[str]) -> None:
    found = by_name(paths)
    assert set(found.values()) <= set(paths)
    for name, path in found.items():
        assert module_name(path) == name
        assert all(part.isidentifier() for part in name.split("."))
    assert set(found) == {module_name(path) for path in paths} - {""}
