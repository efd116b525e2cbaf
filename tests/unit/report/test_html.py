"""The HTML report without a browser: the file's content, and reading the report back from it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from importlib import resources
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.model.plan import Reason, Verdict
from layer_minimizer.report.html import pack, render

PAGE = resources.files("layer_minimizer.report") / "page"
# Of d3-hierarchy 3.1.3, as published.
D3_SHA512 = (
    "072a63238fa1d48d8a7b0a7a19185bb9465f8d52e8f61426ee6b22b5c45be029"
    "c183d0463ce0df2c3daa76831225321e312b168d5c40e30a326d21952a5a9bc0"
)
ROW = {
    "path": "PIL/Image.py", "distribution": "pillow", "bytes": 144_233, "shipped": 60_211, "verdict": "kept",
    "reason": "TRACED", "evidence": "opened by the run", "cause": "",
}  # fmt: skip
# As json.loads gives them: a pair of surrogates is one character.
NAMES = st.text(max_size=12).map(lambda text: json.loads(json.dumps(text))) | st.sampled_from(
    ["a/b/c.py", "a/b/d.py", "\U0001f40d\U0001f40e", "\U0001f40d\U0001f40f", "</script>", "\udcff\udc80", ""]
)


class Parts(HTMLParser):
    """The tags of a page, and the content of its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.raw.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def report(*names: str, **more: Any) -> dict[str, Any]:
    files = [ROW | {"path": name, "cause": name, "bytes": number} for number, name in enumerate(names)]
    return {"format": 1, "files": files, "imports": [], "not_exercised": [], "libraries": [], **more}


def embedded(html: str) -> dict[str, Any]:
    """Read a page's report as its scripts do."""
    found = re.search(r'<script type="application/octet-stream" id="data">([A-Za-z0-9+/=]*)</script>', html)
    assert found
    packed: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    for key in ("files", "imports", "not_exercised"):
        columns = {
            name: column if isinstance(column, list) else strings(column) for name, column in packed[key].items()
        }
        packed[key] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return packed


def strings(column: dict[str, Any]) -> list[str]:
    found: list[str] = []
    last = b""
    for shared, rest in zip(column["shared"], column["rest"], strict=True):
        last = last[: 2 * shared] + rest.encode("utf-16-le", "surrogatepass")
        found.append(last.decode("utf-16-le", "surrogatepass"))
    return found if column["at"] is None else [found[place] for place in column["at"]]


@given(st.lists(NAMES, max_size=8))
def test_the_report_can_be_read_back_from_the_page(names: list[str]) -> None:
    given_report = report(*names, warnings=names, imports=[{"module": n, "importer": "", "line": 3} for n in names])
    assert embedded(render(given_report)) == given_report


def test_front_coding_makes_long_tables_small() -> None:
    paths = [f"torch/include/ATen/ops/_a_rather_long_name_of_a_header_{n:05}.h" for n in range(26_000)]
    assert len(pack(report(*paths))) < 300_000


def test_nothing_of_the_report_becomes_markup() -> None:
    evil = [
        "</script><script>alert(1)</script>",
        "<!--",
        "-->",
        "{{script}}",
        '"><img src=x onerror=alert(1)>',
        "\udcff",
    ]
    plain = Parts(render(report("a.py")))
    parts = Parts(render(report(*evil, entry=evil[0], warnings=evil)))
    assert parts.found == plain.found
    assert render(report(*evil)).encode("utf-8")
    assert not any(name.startswith("on") for _, attributes in parts.found for name in attributes)


def test_the_page_needs_nothing_else() -> None:
    parts = Parts(render(report("a.py")))
    assert {tag for tag, _ in parts.found}.isdisjoint(
        {"link", "img", "iframe", "object", "embed", "audio", "video", "base", "form"}
    )
    for tag, attributes in parts.found:
        assert "src" not in attributes
        assert tag == "a" or "href" not in attributes
    assert [attributes["href"] for attributes in parts.attributes("a")] == ["#explorer"]
    style = (PAGE / "page.css").read_text("utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else() -> None:
    parts = Parts(render(report("a.py")))
    (policy,) = [
        each["content"] for each in parts.attributes("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    directives = {each.split()[0]: each.split()[1:] for each in policy.split(";")}
    style, library, _data, script = parts.raw
    assert directives == {
        "default-src": ["'none'"],
        "script-src": [source(library), source(script)],
        "style-src": [source(style)],
    }


def source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_d3_hierarchy_is_the_published_one_with_its_licence() -> None:
    library = (PAGE / "d3-hierarchy.min.js").read_bytes()
    assert hashlib.sha512(library).hexdigest() == D3_SHA512
    assert library.startswith(b"// https://d3js.org/d3-hierarchy/ v3.1.3 ")
    html = render(report("a.py"))
    assert library.decode() in html
    assert (PAGE / "d3-hierarchy.LICENSE").read_text("utf-8") in html


def test_every_verdict_and_reason_is_explained() -> None:
    words = (PAGE / "words.js").read_text("utf-8")
    verdicts, reasons = words.split("REASON_MEANS")
    assert set(re.findall(r"^  ([A-Z_]+): \"", reasons, re.MULTILINE)) == {reason.value for reason in Reason}
    named = set(re.findall(r"^  \"?([a-z-]+)\"?: \"", verdicts, re.MULTILINE))
    assert named == {verdict.value for verdict in Verdict} | {"compacted", "stand-in", "own"}
