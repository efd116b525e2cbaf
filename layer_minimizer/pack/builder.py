"""Makes a layer from a plan: copies, compacted libraries, stand-ins, the cold store, bytecode; and the zip."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.environment import base_layers
from layer_minimizer.layer import cold_store, layout, packed_bytecode
from layer_minimizer.layer.archive import entries, refuse_entries, write_zip
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import TracedStandIn, Use
from layer_minimizer.native import parts
from layer_minimizer.pack import budget, bytecode, checksums, staging, stand_ins
from layer_minimizer.pack.budget import cold_file_offers, least_likely
from layer_minimizer.pack.libraries import Shrinker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_minimizer.model.outcome import Bundled, LayerArchive
    from layer_minimizer.plan.planning import Case

# What messages inside the layer call it; no name of the user's, so that equal files make equal bytes.
_LAYER = "made by layer_minimizer"


@dataclass(frozen=True, slots=True)
class _Contents:
    """What becomes of a plan's Python code.

    ``modules`` are the paths of all that is kept, ``texts`` of those among them that keep their source; ``cold`` has
    the sources of the others, too. ``standing`` are modules that another stands in for.
    """

    modules: frozenset[str]
    texts: frozenset[str]
    standing: tuple[TracedStandIn, ...]
    cold: tuple[Decision, ...]


@dataclass(slots=True)
class Builder:
    """Builds layers of one case; what was compressed once is kept in ``scratch``, since a plan may need repair.

    ``sources`` says that all modules keep their source beside their bytecode. ``documented`` are the top-level packages
    whose bytecode has docstrings, None for all. ``texts`` are modules that keep their source although the trace saw
    nobody read it, ``bare`` those whose source is cold, ``given_up`` cold files that the budget has no room for.
    ``shipped`` are the bytes that each installed file has in the last layer. ``bundled`` are the libraries of this
    machine in it, ``warnings`` what may fail in the runtime. ``beside`` is what the layer shares the limit with.
    """

    case: Case
    scratch: Path
    shrinker: Shrinker | None
    sources: bool
    documented: set[str] | None
    beside: budget.ReservedBytes = budget.NOTHING_RESERVED
    texts: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    shipped: dict[str, int] = field(default_factory=dict)
    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, case: Case, scratch: Path) -> Builder:
        """Give the builder for a case: with libraries compacted where that is wanted and possible."""
        settings = case.settings
        hot = case.hot_pages() if settings.native == "on" else {}
        runtime = Path(settings.runtime_library) if settings.runtime_library else parts.runtime_library()
        shrinker = Shrinker(hot, runtime, settings.cold, scratch / "libraries") if hot and runtime else None
        documented = set[str]() if settings.strip_docstrings else None
        return cls(case, scratch, shrinker, settings.bytecode in ("both", "source"), documented)

    def build(self, plan: KeepPlan, part: Path) -> LayerArchive | None:
        """Write the layer of ``plan`` into the zip ``part``.

        Gives None where it would be too large with all that no event asked for: then the case has put some of that
        aside, and will plan without.

        Raises:
            PackError: it is too large, would not work in the runtime, or cannot be written.
        """
        settings = self.case.settings
        self.bundled, self.warnings = self.case.obey_lambda(plan)
        if aside := ", ".join(sorted(self.case.aside)):
            self.warnings += (f"there is no room for what code in the layer names and no event needed: {aside}",)
        if not self.case.lays_out:
            self.warnings += ("there is no room to lay out what no event used and code in C could open",)
        if self.shrinker is None and settings.bytecode == "source":
            settings.budget.check(plan, self.beside)  # before anything is copied
        sizes, shares = self._stage(plan)
        excess = sizes.total() + self.beside.total - settings.budget.limit
        if excess > 0 and self.case.put_aside(plan, self.shipped, excess):
            return None
        if excess > 0 and self.bare and settings.cold is Cold.KEEP:
            self.given_up |= self.bare
            self.warnings += ("there is no room for the sources of modules that are shipped as bytecode",)
            sizes, _ = self._stage(plan)
        if excess > 0 and settings.cold is Cold.AUTO:
            offers = [*(self.shrinker.offers() if self.shrinker else ()), *cold_file_offers(plan, shares)]
            dropped = list(least_likely(offers, excess))
            self.given_up |= {offer.path for offer in dropped if offer.chunk < 0}
            if self.shrinker:
                self.shrinker.drop(offer for offer in dropped if offer.chunk >= 0)
            sizes, _ = self._stage(plan)
        settings.budget.check_sizes(sizes, self.beside)
        archive = write_zip(self._folder, part)
        if self.case.target:
            refuse_entries(entries(part))
        shutil.rmtree(self._folder, ignore_errors=True)
        return archive

    def give_sources(self, said: str, code: Iterable[str]) -> None:
        """Ship the source of modules that a traceback names, or of all when it names none that lacks it.

        Whoever reads one text of a package goes on to others: from the second time on it is all of the package, of the
        modules ``code``.
        """
        named = self._named_in(said)
        if self.texts:
            packages = {modules.top_level(path) for path in named}
            named |= {path for path in code if modules.top_level(path) in packages}
        self.sources = named <= self.texts
        self.texts |= named

    def give_pages(self, lacking: Mapping[str, Iterable[int]]) -> list[str]:
        """Ship more of libraries of which a run lacked pages, by address; give those of which there was more."""
        shrinker = self.shrinker
        return [path for path, where in sorted(lacking.items()) if shrinker and shrinker.give(path, where)]

    @property
    def final(self) -> bool:
        """Say whether what was left out of the files that are in the last layer cannot come back."""
        dropped = self.shrinker is not None and any(made.dropped for made in self.shrinker.reports.values())
        return self.case.settings.cold is Cold.DROP or dropped

    def give_docstrings(self, said: str) -> None:
        """Ship the docstrings of the packages that a traceback names, or of all when it names none that lacks them."""
        named = {modules.top_level(path) for path in self._named_in(said)} - (self.documented or set())
        self.documented = self.documented | named if self.documented is not None and named else None

    def _named_in(self, traceback: str) -> set[str]:
        """Give the layer's modules that a traceback goes through."""
        return set(re.findall(rf'"{re.escape(self._opt)}/([^"]+\.py)"', traceback))

    @property
    def _opt(self) -> str:
        """Where the packages will lie in Lambda."""
        return f"/opt/{self.case.settings.layout.prefix(self.case.trace.python)}"

    @property
    def _folder(self) -> Path:
        return self.scratch / "stage"

    def _stage(self, plan: KeepPlan) -> tuple[Counter[str], dict[str, int]]:
        """Lay the layer out; give its bytes by distribution, and what each cold file costs."""
        settings = self.case.settings
        shutil.rmtree(self._folder, ignore_errors=True)
        if self.shrinker and settings.cold is Cold.DROP:
            # What the traced run could do without has no touched pages, and nothing else would ever come back.
            self.shrinker.whole |= {d.path for d in plan.kept if d.reason is Reason.REPAIRED}
        place = self.shrinker.place if self.shrinker else None
        sizes = staging.stage(plan, self.case.inventory, self._folder, settings.layout, place, self.case.copies)
        sizes += staging.add_libraries(self.bundled, self._folder)
        top = self._folder / settings.layout.prefix(plan.python)
        contents = self._contents(plan)
        compiler = bytecode.Compiler(
            self.case.interpreter, self._opt, self.scratch / "compile", documented=self.documented
        )
        shares: dict[str, int] = {}
        packed: dict[str, bytes] = {}
        if contents.standing or contents.cold:
            shares = self._write_cold(plan, contents.cold, top)
            sizes += _by_owner(contents.cold, shares)
            sizes[layout.NO_DISTRIBUTION] += stand_ins.write_stand_ins(
                contents.standing, top, compiler, layer=_LAYER, kept=settings.cold is not Cold.DROP
            )
        if settings.bytecode != "source":
            bytecode.compile_modules(sorted(contents.modules), top, compiler, with_source=contents.texts)
            if settings.bytecode == "auto":
                packed = self._pack(plan, contents, top, compiler)
            runtime = [path.relative_to(top).as_posix() for path in sorted((top / cold_store.PACKAGE).glob("*.py"))]
            bytecode.compile_modules(runtime, top, compiler, with_source=())
            packed_bytecode.pack_runtime(top)
        if (top / cold_store.PACKAGE).exists():
            sizes[layout.NO_DISTRIBUTION] += checksums.write_sums(top, self._needs_of(plan), base_layers.is_compacted)
        kept = Counter({d.path: self._shipped_bytes(top, d.path) for d in plan.kept})
        kept += Counter({f"{stem}.py": len(content) for stem, content in packed.items()})
        self.shipped = dict(kept + Counter(shares))
        written = sum(file.lstat().st_size for file in self._folder.rglob("*") if file.is_symlink() or file.is_file())
        sizes[layout.NO_DISTRIBUTION] += written - sizes.total()  # the runtime, and what it keeps for itself
        return sizes, shares

    def _pack(self, plan: KeepPlan, contents: _Contents, top: Path, compiler: bytecode.Compiler) -> dict[str, bytes]:
        """Compress the modules that are laid out as bytecode alone, if that is worth it; give what each became."""
        names = Counter(modules.module_name(d.path) for d in plan.kept)
        # Where several files could be one module, Python's finders choose by what lies there.
        alone = (path for path in contents.modules - contents.texts if names[modules.module_name(path)] == 1)
        stems = [path.removesuffix(".py") for path in sorted(alone) if not (top / path).exists()]
        packed = packed_bytecode.compress(stems, top)
        started = (top / cold_store.PACKAGE).exists()
        if not packed_bytecode.is_worth_it(packed, top, 0 if started else cold_store.runtime_bytes()):
            return {}
        if not started:
            self._write_cold(plan, (), top)
        packed_bytecode.pack(packed, top)
        stand_ins.write_anchors(packed_bytecode.anchors(packed), top, compiler)
        return packed

    def _contents(self, plan: KeepPlan) -> _Contents:
        settings = self.case.settings
        links = {file.path for file in self.case.inventory.files if file.link}
        code = {d.path for d in plan.kept if d.path.endswith(".py") and modules.module_name(d.path)} - links
        read = {file.path for file in self.case.trace.files if Use.TEXT in file.uses} | self.texts
        texts = code if self.sources else code & read if settings.bytecode == "auto" else set()
        # Without a way back nobody finds a source in the cold store.
        self.bare = set() if settings.cold is Cold.DROP else code - texts
        cold = (*plan.cold, *(d for d in plan.kept if d.path in self.bare))
        stood_in = {d.path for d in plan.decisions if d.reason is Reason.STAND_IN}
        return _Contents(
            modules=frozenset(code),
            texts=frozenset(texts),
            standing=tuple(module for module in self.case.trace.stand_ins if module.path in stood_in),
            cold=tuple(d for d in cold if d.path not in self.given_up),
        )

    def _shipped_bytes(self, top: Path, path: str) -> int:
        """Give what stands for an installed file in the staged layer, whatever became of it."""
        file = top / path
        compiled = [file.with_suffix(".pyc"), *(file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
        places = [file, *(compiled if path.endswith(".py") else ())]
        found = [place for place in places if place.is_symlink() or place.exists()]
        report = self.shrinker.reports.get(path) if self.shrinker else None
        store = report.cold if report else 0
        size: int = store + sum(place.lstat().st_size for place in found)
        return size

    def _write_cold(self, plan: KeepPlan, cold: Iterable[Decision], top: Path) -> dict[str, int]:
        """Write the cold store, which also knows what was dropped with its whole distribution."""
        there = (Reason.STAND_IN, Reason.PROVIDED)
        present = {d.distribution for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason in there}
        dropped = {
            d.path.split("/", 1)[0].removesuffix(".py"): d.distribution
            for d in plan.decisions
            if d.distribution not in present and modules.module_name(d.path) and d.reason is not Reason.PROVIDED
        }
        versions = {each.name: each.version for each in self.case.inventory.distributions}
        brought = {d.distribution for d in (*plan.kept, *plan.cold)} | {
            d.distribution for d in plan.decisions if d.reason is Reason.STAND_IN
        }
        sources = self.case.sources
        files = [cold_store.ColdFile(d.path, sources[d.path], self._needs(d.path)) for d in cold]
        return cold_store.write_store(
            files,
            top,
            layer=_LAYER,
            dropped=dropped,
            distributions={name: versions[name] for name in brought & versions.keys()},
            customized=self.case.below.customized,
        )

    def _needs_of(self, plan: KeepPlan) -> Callable[[str], tuple[str, ...]]:
        """Give a function that tells the needs of the plan's own libraries, and none of what was added to them."""
        kept = {decision.path for decision in plan.kept}
        return lambda path: tuple(needed for needed in self._needs(path) if needed in kept) if path in kept else ()

    def _needs(self, path: str) -> tuple[str, ...]:
        """Give all site libraries that a library needs."""
        found = self.case.library_closure([path]) if elf.is_elf_name(path) else ()
        return tuple(sorted({needed for needed, _ in found} - {path}))


def _by_owner(cold: Iterable[Decision], shares: dict[str, int]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for decision in cold:
        sizes[decision.distribution or layout.NO_DISTRIBUTION] += shares[decision.path]
    return sizes
