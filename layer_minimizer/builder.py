"""Makes a layer from a plan: copies, compacted libraries, stand-ins, the cold store, bytecode; and the zip."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import coldfiles, elf, modules, packager, stubs
from layer_minimizer.model import Reason, Use, Verdict
from layer_minimizer.native import parts
from layer_minimizer.native.shrink import Cold, Offer, Shrinker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.case import Case
    from layer_minimizer.model import Decision, KeepPlan, LayerArchive, TracedStandIn

# How likely it is that another input needs what only stands in, and what lies beside nothing that is used.
_STOOD_IN, _ALONE = 0.5, 0.001
# What messages inside the layer call it; no name of the user's, so that equal files make equal bytes.
_LAYER = "made by layer_minimizer"


@dataclass(slots=True)
class Builder:
    """Builds layers of one case; what was compressed once is kept in ``scratch``, since a plan may need repair.

    ``sources`` says that all modules keep their source beside their bytecode, ``docstrings`` that bytecode has them.
    ``shipped`` are the bytes that each installed file has in the last layer.
    """

    case: Case
    scratch: Path
    shrinker: Shrinker | None = None
    sources: bool = False
    docstrings: bool = True
    texts: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    shipped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, scratch: Path) -> Builder:
        """Give the builder for a case: with libraries compacted where that is wanted and possible."""
        settings = case.settings
        hot = case.hot_pages()
        runtime = Path(settings.runtime_library) if settings.runtime_library else parts.runtime_library()
        # Where it is not known whose text is read, the verifying run shows whether somebody needs one.
        sources = settings.bytecode == "both"
        if settings.native == "off" or not hot or runtime is None:
            return cls(case, scratch, sources=sources, docstrings=not settings.strip_docstrings)
        shrinker = Shrinker(hot, runtime, settings.cold, scratch / "libraries")
        return cls(case, scratch, shrinker, sources, docstrings=not settings.strip_docstrings)

    def build(self, plan: KeepPlan, part: Path) -> LayerArchive:
        """Write the layer of ``plan`` into the zip ``part``.

        Raises:
            PackError: it is too large, or cannot be written.
        """
        settings = self.case.settings
        if self.shrinker is None and settings.bytecode == "source":
            settings.budget.check(plan)  # before anything is copied
        sizes, shares = self._stage(plan)
        excess = sizes.total() - settings.budget.limit
        if excess > 0 and settings.cold is Cold.AUTO:
            offers = [*(self.shrinker.offers() if self.shrinker else ()), *self._offers(plan, shares)]
            dropped = list(_least_likely(offers, excess))
            self.given_up |= {offer.path for offer in dropped if offer.chunk < 0}
            if self.shrinker:
                self.shrinker.drop(offer for offer in dropped if offer.chunk >= 0)
            sizes, _ = self._stage(plan)
        settings.budget.check_sizes(sizes)
        archive = packager.write_zip(self._folder, part)
        shutil.rmtree(self._folder, ignore_errors=True)
        return archive

    def give_sources(self, said: str) -> None:
        """Ship the source of modules that a traceback names, or of all when it names none that lacks it."""
        place = re.compile(rf'"{re.escape(self._opt)}/([^"]+\.py)"')
        named = set(place.findall(said)) - self.texts
        self.texts |= named
        self.sources = not named

    @property
    def _opt(self) -> str:
        """Where the packages will lie in Lambda."""
        return f"/opt/{self.case.settings.layout.prefix(self.case.trace.python)}"

    @property
    def _folder(self) -> Path:
        return self.scratch / "stage"

    def _stage(self, plan: KeepPlan) -> tuple[Counter[str], dict[str, int]]:
        """Lay the layer out; give its bytes by distribution, and what each cold file costs."""
        layout, shares = self.case.settings.layout, dict[str, int]()
        shutil.rmtree(self._folder, ignore_errors=True)
        place = self.shrinker.place if self.shrinker else None
        sizes = packager.stage(plan, self.case.inventory, self._folder, layout, place)
        prefix = layout.prefix(plan.python)
        top = self._folder / prefix
        compiler = stubs.Compiler(
            self.case.interpreter.executable,
            self._opt,
            self.scratch / "compile",
            docstrings=self.docstrings,
        )
        standing = self._stand_ins(plan)
        cold = [d for d in (*plan.cold, *self._texts(plan)) if d.path not in self.given_up]
        if standing or cold:
            shares = self._write_cold(plan, cold, top)
            sizes += _by_owner(cold, shares)
            sizes[packager.NO_DISTRIBUTION] += stubs.write_stand_ins(
                standing, top, compiler, layer=_LAYER, kept=self.case.settings.cold is not Cold.DROP
            )
        if self.case.settings.bytecode != "source":
            sizes[packager.NO_DISTRIBUTION] += self._compile(plan, top, compiler)
        kept = Counter({d.path: self._shipped_bytes(top, d.path) for d in plan.kept})
        self.shipped = dict(kept + Counter(shares))
        return sizes, shares

    def _shipped_bytes(self, top: Path, path: str) -> int:
        """Give what stands for an installed file in the staged layer, whatever became of it."""
        file = top / path
        places = [file, file.with_suffix(".pyc"), *(file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
        found = [
            place for place in (places if path.endswith(".py") else [file]) if place.is_symlink() or place.exists()
        ]
        store = self.shrinker.reports[path].cold if self.shrinker and path in self.shrinker.reports else 0
        return sum(place.lstat().st_size for place in found) + store

    def _texts(self, plan: KeepPlan) -> list[Decision]:
        """Give the modules whose source goes into the store, since the layer has their bytecode alone."""
        if self.case.settings.cold is Cold.DROP or self.case.settings.bytecode == "source":
            return []
        compiled_only = self._modules(plan) - self._with_source(plan)
        return [d for d in plan.kept if d.path in compiled_only]

    def _modules(self, plan: KeepPlan) -> set[str]:
        links = {file.path for file in self.case.inventory.files if file.link}
        found = {d.path for d in plan.kept if d.path.endswith(".py") and modules.module_name(d.path)}
        return found - links

    def _with_source(self, plan: KeepPlan) -> set[str]:
        texts = {file.path for file in self.case.trace.files if Use.TEXT in file.uses}
        return self._modules(plan) if self.sources else (texts | self.texts) & self._modules(plan)

    def _stand_ins(self, plan: KeepPlan) -> list[TracedStandIn]:
        stood_in = {d.path for d in plan.decisions if d.reason is Reason.STAND_IN}
        return [module for module in self.case.trace.stand_ins if module.path in stood_in]

    def _write_cold(self, plan: KeepPlan, cold: list[Decision], top: Path) -> dict[str, int]:
        sources = {file.path: Path(file.source) for file in self.case.inventory.files}
        kept = {
            d.distribution for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason is Reason.STAND_IN
        }
        dropped = {
            d.path.split("/", 1)[0].removesuffix(".py"): d.distribution
            for d in plan.decisions
            if d.distribution not in kept and modules.module_name(d.path) and d.reason is not Reason.PROVIDED
        }
        needs = self._library_needs([d.path for d in cold], sources)
        files = [coldfiles.ColdFile(d.path, sources[d.path], needs.get(d.path, ())) for d in cold]
        return coldfiles.write_store(files, top, layer=_LAYER, dropped=dropped)

    def _library_needs(self, paths: Iterable[str], sources: dict[str, Path]) -> dict[str, tuple[str, ...]]:
        def read(path: str) -> elf.Dynamic | None:
            return elf.read_dynamic(sources[path])

        found = {}
        for path in paths:
            if ".so" in path:
                closure = elf.library_closure([path], read, sources.__contains__)
                found[path] = tuple(sorted({needed for needed, _ in closure} - {path}))
        return found

    def _compile(self, plan: KeepPlan, top: Path, compiler: stubs.Compiler) -> int:
        """Put bytecode in place of sources, beside them where somebody reads their text."""
        runtime = [path.relative_to(top).as_posix() for path in sorted((top / coldfiles.PACKAGE).glob("*.py"))]
        wanted = [*sorted(self._modules(plan)), *runtime]
        return stubs.compile_modules(wanted, top, compiler, with_source=self._with_source(plan))

    def _offers(self, plan: KeepPlan, shares: dict[str, int]) -> Iterator[Offer]:
        """Give the cold files, with a guess how likely it is that another input needs them.

        What lies beside much that is used is likely to be needed.
        """
        beside = Counter(d.path.rpartition("/")[0] for d in plan.kept)
        everything = Counter(d.path.rpartition("/")[0] for d in plan.decisions)
        for decision in plan.cold:
            if decision.path in shares:
                folder = decision.path.rpartition("/")[0]
                likely = max(_ALONE, _STOOD_IN * beside[folder] / everything[folder])
                likely = _STOOD_IN if decision.reason is Reason.STAND_IN else likely
                yield Offer(likely, shares[decision.path], decision.path, -1)


def _by_owner(cold: Iterable[Decision], shares: dict[str, int]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for decision in cold:
        sizes[decision.distribution or packager.NO_DISTRIBUTION] += shares[decision.path]
    return sizes


def _least_likely(offers: list[Offer], excess: int) -> Iterator[Offer]:
    """Give offers of ``excess`` bytes together, the least likely to be needed first; all of them where that is less."""
    for offer in sorted(offers, key=lambda offer: (offer.likelihood, -offer.size, offer.path, offer.chunk)):
        if excess > 0:
            excess -= offer.size
            yield offer
