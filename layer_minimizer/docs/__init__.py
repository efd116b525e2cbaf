"""The manual: Markdown pages that are shipped with the package, one a topic."""

from __future__ import annotations

from importlib import resources

_SUFFIX = ".md"


def topics() -> dict[str, str]:
    """Return the title of each page by its topic, in alphabetical order."""
    names = (file.name for file in resources.files(__name__).iterdir())
    return {topic: _title(topic) for topic in sorted(name.removesuffix(_SUFFIX) for name in names if _is_page(name))}


def read(topic: str) -> str:
    """Return the Markdown text of a page.

    Raises:
        FileNotFoundError: there is no page of this topic.
    """
    return resources.files(__name__).joinpath(f"{topic}{_SUFFIX}").read_text("utf-8")


def _is_page(name: str) -> bool:
    return name.endswith(_SUFFIX)


def _title(topic: str) -> str:
    return read(topic).partition("\n")[0].removeprefix("# ")
