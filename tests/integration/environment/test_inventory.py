"""The files in site-packages folders, and their distributions."""

from typing import Any


def test_a_folder_that_is_reached_by_two_names_is_one(env: Any) -> None:
    env.install("pkg", {"pkg.py": ""})
    found = env.take_inventory()
    assert (env.root / "lib64" / env.site.relative_to(env.root / "lib") / "pkg.py").exists()
    assert [file.path for file in found.files if file.path == "pkg.py"] == ["pkg.py"]
    assert found.shadowed == ()
