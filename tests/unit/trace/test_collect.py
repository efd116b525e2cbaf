"""The digest of the code on which cached results of the search depend."""

from pathlib import Path

import pytest

from layer_minimizer.trace import collect


def test_every_file_of_the_search_changes_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "__file__", str(tmp_path / "trace" / "collect.py"))
    digests = [collect._search_code_digest.__wrapped__()]
    for name in ("trace/stand_in_search.py", "payload/runtime/standin_new.py", "payload/probe/new.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for content in ("", "changed"):
            file.write_text(content)
            digests.append(collect._search_code_digest.__wrapped__())
    (tmp_path / "payload" / "runtime" / "store.py").touch()
    assert len({*digests}) == len(digests)
    assert collect._search_code_digest.__wrapped__() == digests[-1]


def test_each_pattern_of_the_search_code_matches_a_file() -> None:
    package = Path(collect.__file__).parents[1]
    assert all(any(package.glob(pattern)) for pattern in collect._SEARCH_CODE)
