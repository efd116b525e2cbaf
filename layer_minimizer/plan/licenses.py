"""Decide which license texts and METADATA files lie in a layer as plain files. Nothing here reads files."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.model.installed import ALWAYS_METADATA, METADATA_FOLDERS
from layer_minimizer.model.plan import FINAL_REASONS, Decision, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layer_minimizer.model.installed import Distribution, Inventory

# What build tools look for if nothing is declared, and what people call such files in folders of code that they copied:
# https://setuptools.pypa.io/en/latest/userguide/miscellaneous.html, https://peps.python.org/pep-0639/
_NAME = re.compile(
    r"(?:un)?licen[cs]e|copying|copyright|notice|authors|third[-_]?party[-_]?(?:licen[cs]e|notice)", re.IGNORECASE
)
# A file with one of these suffixes is code or data, whatever its name.
_OTHER = re.compile(
    r"\.(?:py[a-z]?|so|js|mjs|ts|css|s?html?|jinja2?|j2|tmpl|template|json|ya?ml|toml|ini|cfg|xml|csv|sql|ipynb|png|svg|"
    r"gif|jpe?g|ico|h|hpp|c|cc|cpp|rs|go|po|pot|mo|gz|zip|bin|dat|pkl)$",
    re.IGNORECASE,
)
_TEXT = ("txt", "md", "rst", "license")
# Folders for nothing but license texts: what they are about is around them.
_FOLDERS = ("licenses", "licences", "license_files")


def with_licenses(decisions: Iterable[Decision], inventory: Inventory) -> list[Decision]:
    """Return the decisions with license texts and METADATA of all distributions in the layer kept as plain files.

    Those in the metadata folder count for all of the distribution. One inside a package, as with code that was copied
    from elsewhere, counts for what is in its folder and below: it is kept if something of that is in the layer.
    """
    decisions = list(decisions)
    folders = _folders_in_layer(decisions)
    declared = _declared(inventory.distributions)
    own = {each.metadata: each.name for each in inventory.distributions}
    links = {file.path for file in inventory.files if file.link}
    return [
        _kept(each)
        if each.verdict is not Verdict.KEPT
        and each.reason not in FINAL_REASONS
        and each.path not in links
        and _subject(each, own, declared) in folders.get(each.distribution, ())
        else each
        for each in decisions
    ]


def without_licenses(decisions: Iterable[Decision], inventory: Inventory) -> list[Decision]:
    """Return the decisions without license texts that no event read. METADATA stays as it is: programs look it up."""
    declared = _declared(inventory.distributions)
    return [
        replace(each, verdict=Verdict.DROPPED, reason=Reason.EXCLUDED, evidence="--licenses drop", cause="")
        if each.verdict is Verdict.COLD and (is_license_text(each.path) or each.path in declared)
        else each
        for each in decisions
    ]


def is_license_text(path: str) -> bool:
    """Return whether a file is a license text, a list of authors or a notice, by its name and folder."""
    *folders, name = path.split("/")
    if _OTHER.search(name) or name.startswith("."):
        return False
    if _NAME.match(name):
        return True
    if not any(folder.lower() in _FOLDERS for folder in folders[-3:]):
        return False
    # In a package, a folder of this name may also have templates or lists.
    _, dot, suffix = name.rpartition(".")
    return folders[0].endswith(METADATA_FOLDERS) or not dot or suffix.lower() in _TEXT


def without_text(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Return the distributions in the layer of which no license text is in it as a plain file."""
    present: set[str] = set()
    found: set[str] = set()
    for each in decisions:
        if each.distribution and each.verdict is not Verdict.DROPPED:
            present.add(each.distribution)
        declared = each.reason is Reason.LICENSE and each.path.rpartition("/")[2] not in ALWAYS_METADATA
        if each.verdict is Verdict.KEPT and (declared or is_license_text(each.path)):
            found.add(each.distribution)
    return tuple(sorted(present - found))


def _kept(decision: Decision) -> Decision:
    evidence = f"a license text or the metadata of {decision.distribution}, of which something is in the layer"
    return replace(decision, verdict=Verdict.KEPT, reason=Reason.LICENSE, evidence=evidence, cause="")


def _folders_in_layer(decisions: Iterable[Decision]) -> Mapping[str, set[str]]:
    """Return for each distribution the folders with something of it in the layer; the empty one stands for all."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in decisions:
        if each.verdict is Verdict.DROPPED or not each.distribution:
            continue
        folder = each.path
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in found[each.distribution]:
                break
            found[each.distribution].add(folder)
    return found


def _declared(distributions: Iterable[Distribution]) -> frozenset[str]:
    """Return the paths at which build tools put the files that ``License-File`` names."""
    return frozenset(
        f"{each.metadata}/{folder}{name}"
        for each in distributions
        for file in each.license.files
        for name in (file, file.rpartition("/")[2])
        for folder in ("", *(f"{folder}/" for folder in _FOLDERS))
    )


def _subject(decision: Decision, own: Mapping[str, str], declared: frozenset[str]) -> str | None:
    """Return the folder that a license text is about, or None for another file; empty: all of the distribution."""
    path = decision.path
    if path.split("/", 1)[0] in own:
        is_metadata = path in own or (path.count("/") == 1 and path.endswith(tuple(f"/{n}" for n in ALWAYS_METADATA)))
        return "" if is_metadata or path in declared or is_license_text(path) else None
    if not is_license_text(path):
        return None
    folders = path.split("/")[:-1]
    while folders and (folders[-1].lower() in _FOLDERS or folders[-1].endswith(METADATA_FOLDERS)):
        folders.pop()
    return "/".join(folders)
