"""The plan: a verdict and a reason for every installed file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from layer_minimizer.model import codec
from layer_minimizer.model.trace import TracedModule, TracedStandIn

PLAN_FORMAT = 1


# ---- verdicts -----------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """Whether a file goes into the layer."""

    KEPT = "kept"
    COLD = "cold"  # compressed in the layer, restored on demand
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why a file is kept or dropped. The names are part of the report's format."""

    TRACED = "TRACED"  # used by the traced run
    PACKAGE = "PACKAGE"  # __init__ of a package that contains a kept file
    NEEDED = "NEEDED"  # loaded by a kept shared library
    METADATA = "METADATA"  # metadata of a distribution that the traced run looked up
    PICKLED = "PICKLED"  # a model contains a class or function of it
    STATIC = "STATIC"  # kept code could import it
    INCLUDED = "INCLUDED"  # --include
    STARTUP = "STARTUP"  # a .pth file of a distribution that is used, and what it imports
    LINKED = "LINKED"  # target of a kept symbolic link, or a copy of a kept library
    REPAIRED = "REPAIRED"  # a run on the layer needed it
    LICENSE = "LICENSE"  # license text or METADATA of a distribution of which something is in the layer
    STAND_IN = "STAND_IN"  # imported but unused: replaced by a stand-in
    ASLEEP = "ASLEEP"  # imported only by modules that are replaced by stand-ins
    REACHABLE = "REACHABLE"  # its distribution was not used, but code in the layer names it
    UNTOUCHED = "UNTOUCHED"  # not used, unlike other files of its distribution
    GPU = "GPU"  # for a GPU, which the traced run did not have
    DEVELOPMENT = "DEVELOPMENT"  # only compilers or test runners read it
    UNUSED = "UNUSED"  # not used, nor any other file of its distribution
    EXCLUDED = "EXCLUDED"  # --exclude
    PROVIDED = "PROVIDED"  # in another layer
    SCANNED = "SCANNED"  # metadata that was read only because all distributions were listed
    IDLE = "IDLE"  # imported at interpreter start by an unused distribution
    SHADOWED = "SHADOWED"  # an earlier folder on sys.path has a file of this name


class Cold(StrEnum):
    """What to do with unused files and unused pages of libraries."""

    KEEP = "keep"  # keep them compressed in the layer, restored on first use
    DROP = "drop"  # omit them; accessing an omitted page ends the process with a message
    AUTO = "auto"  # keep as many as the size limit allows, the most likely to be needed per byte first


# Files dropped for these reasons are never added later: options exclude them, or Python would not find them.
FINAL_REASONS = (Reason.EXCLUDED, Reason.PROVIDED, Reason.SHADOWED)


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict about one file.

    Attributes:
        path: its path relative to site-packages.
        size: its size in bytes.
        distribution: the normalized name of its distribution, or empty.
        verdict: whether it goes into the layer.
        reason: why.
        evidence: the reason as a sentence.
        cause: the path or module that the verdict follows from, or empty.
    """

    path: str
    size: int
    distribution: str
    verdict: Verdict
    reason: Reason
    evidence: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class NotExercised:
    """A module that kept code could import, but that no traced run imported.

    Attributes:
        module: its dotted name.
        importer: the module that could import it.
        line: the line of the import statement.
    """

    module: str
    importer: str
    line: int


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """A verdict for every installed file.

    Attributes:
        python: the version folder of the interpreter, such as ``python3.11``.
        decisions: the verdicts, sorted by path.
        folders: empty folders that the traced run listed.
        chains: the modules on the import chains from the entry to kept modules.
        stand_ins: modules that are replaced by stand-ins, without their tables.
    """

    python: str
    decisions: tuple[Decision, ...]
    folders: tuple[str, ...]
    chains: tuple[TracedModule, ...]
    stand_ins: tuple[TracedStandIn, ...] = ()

    @property
    def kept(self) -> tuple[Decision, ...]:
        """The decisions about files that go into the layer uncompressed."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.KEPT)

    @property
    def cold(self) -> tuple[Decision, ...]:
        """The decisions about files that go into the layer's cold store."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.COLD)

    def to_json(self) -> dict[str, Any]:
        """Return the form in which a plan is saved."""
        return codec.encode_document(self, PLAN_FORMAT)

    @staticmethod
    def from_json(data: Any) -> KeepPlan:
        """Read a saved plan.

        Raises:
            UsageError: ``data`` is not a plan, or one of another format.
        """
        return codec.decode_document(KeepPlan, data, PLAN_FORMAT, name="plan", has="decisions")
