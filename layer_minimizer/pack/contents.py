"""How each file of a plan is shipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.model import modules
from layer_minimizer.model.plan import Reason
from layer_minimizer.model.snapshot import Needs, PutBack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from layer_minimizer.model.plan import Decision
    from layer_minimizer.model.trace import TracedStandIn


@dataclass(frozen=True, slots=True)
class Contents:
    """How the files of a plan are shipped, by path.

    ``files`` are all kept ones, ``modules`` those of them that are modules; those in ``with_source`` keep their source,
    those in ``bytecode_only`` have it in the cold store. ``replaced`` are modules that are replaced by stand-ins,
    ``standard`` those of the standard library that are.
    ``cold`` are all files for the cold store; ``laid_out`` are those that lie in place instead, because nothing could
    restore them.
    """

    files: frozenset[str]
    modules: frozenset[str]
    with_source: frozenset[str]
    bytecode_only: frozenset[str]
    replaced: tuple[TracedStandIn, ...]
    cold: tuple[Decision, ...]
    laid_out: tuple[Decision, ...]
    standard: tuple[TracedStandIn, ...] = ()

    @property
    def beside_bytecode(self) -> frozenset[str]:
        """The modules whose source lies beside their bytecode."""
        return self.with_source | (self.bytecode_only & {decision.path for decision in self.laid_out})

    def without_modules(self, paths: Collection[str]) -> Contents:
        """Return these contents with the kept modules ``paths`` as files like any other, which are shipped in place."""
        return replace(
            self,
            modules=self.modules.difference(paths),
            with_source=self.with_source.difference(paths),
            bytecode_only=self.bytecode_only.difference(paths),
            cold=tuple(decision for decision in self.cold if decision.path not in paths),
            laid_out=tuple(decision for decision in self.laid_out if decision.path not in paths),
        )

    def put_back(self, needs: Needs, libraries: Iterable[str]) -> PutBack:
        """Return what of these needs has to be put back; ``libraries`` have cold pages."""
        stand_ins = {module.name for module in (*self.replaced, *self.standard)}
        cold, compacted = {decision.path for decision in self.cold}, set(libraries)
        shipped = modules.by_name([*self.files, *cold])
        return PutBack(
            stand_ins=tuple(name for name in needs.modules if name in stand_ins),
            modules=tuple(name for name in needs.modules if name in shipped and name not in stand_ins),
            files=tuple(path for path in needs.files if path in cold),
            pages=tuple(pages for pages in needs.pages if pages[2] in compacted),
        )

    def order_of_omission(self, decision: Decision) -> int:
        """Return 0 for a cold file that has to be in the layer, more for what `budget` omits first from a large one."""
        if decision.path in self.bytecode_only:
            return 2
        return 1 if decision.reason is Reason.REACHABLE else 0

    @property
    def placed(self) -> frozenset[str]:
        """The files that the layer has as they are installed, in place or cold."""
        unused = {decision.path for decision in (*self.cold, *self.laid_out)}
        return self.files - (self.modules - self.with_source) | unused
