"""A verdict and a reason for every installed file."""

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
    COLD = "cold"  # compressed in the layer, for whoever asks for it
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why a file is kept or dropped. The names are part of the report's format."""

    TRACED = "TRACED"  # the run used it
    PACKAGE = "PACKAGE"  # __init__ of a package that holds a kept file
    NEEDED = "NEEDED"  # a kept shared library loads it
    METADATA = "METADATA"  # metadata of a distribution that the run looked up
    PICKLED = "PICKLED"  # a model names a class or function of it
    RULE = "RULE"  # a rule about its distribution
    STATIC = "STATIC"  # kept code could import it
    INCLUDED = "INCLUDED"  # --include
    STARTUP = "STARTUP"  # a .pth file of a distribution that is used, and what it imports
    LINKED = "LINKED"  # target of a kept symbolic link
    REPAIRED = "REPAIRED"  # the layer's own run asked for it
    STAND_IN = "STAND_IN"  # imported and never needed: another module stands in for it
    ASLEEP = "ASLEEP"  # only modules that others stand in for import it
    LOADABLE = "LOADABLE"  # code in C could open it by its path, where nothing serves cold files
    REACHABLE = "REACHABLE"  # nothing asked for its distribution, but code in the layer names that
    UNTOUCHED = "UNTOUCHED"  # nothing asked for it, but for other files of its distribution
    DEVELOPMENT = "DEVELOPMENT"  # only a compiler or a shell reads it
    UNUSED = "UNUSED"  # nothing asked for it
    EXCLUDED = "EXCLUDED"  # --exclude
    PROVIDED = "PROVIDED"  # another layer brings it
    SCANNED = "SCANNED"  # read only because all installed distributions were listed
    IDLE = "IDLE"  # imported at interpreter start by a distribution that is not used
    SHADOWED = "SHADOWED"  # a folder earlier on sys.path has a file of this name


class Cold(StrEnum):
    """What becomes of the files and the pages of libraries that no trace touched."""

    KEEP = "keep"  # compressed in the layer, put back on first use
    DROP = "drop"  # left out; touching a page ends the process with a message
    AUTO = "auto"  # kept as far as the size allows, those first that are likely to be needed for their bytes


# What was left out on the user's word, or because Python would not find it, is not put back.
FINAL_REASONS = (Reason.EXCLUDED, Reason.PROVIDED, Reason.SHADOWED)


@dataclass(frozen=True, slots=True)
class Decision:
    """One file's verdict. ``evidence`` is a sentence; ``cause`` the path or module that it follows from, or empty."""

    path: str
    size: int
    distribution: str
    verdict: Verdict
    reason: Reason
    evidence: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class NotExercised:
    """A module that kept code could import and no trace saw."""

    module: str
    importer: str
    line: int


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """A verdict for every installed file, and the empty folders that the run looked into.

    ``chains`` are the modules on the way from what is kept to the entry, ``stand_ins`` those that others stand in for,
    without their tables.
    """

    python: str
    decisions: tuple[Decision, ...]
    folders: tuple[str, ...]
    chains: tuple[TracedModule, ...]
    stand_ins: tuple[TracedStandIn, ...] = ()

    @property
    def kept(self) -> tuple[Decision, ...]:
        """The decisions for files that go into the layer."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.KEPT)

    @property
    def cold(self) -> tuple[Decision, ...]:
        """The decisions for files that go into the layer's cold store."""
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
