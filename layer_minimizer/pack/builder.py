"""Makes a layer from a plan: copies, compacted libraries, stand-ins, the cold store, bytecode; and the zip."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.environment import base_layers
from layer_minimizer.layer import cold_store, layout, packed_bytecode
from layer_minimizer.layer.archive import entries, refuse_entries, write_zip
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import TracedStandIn, Use
from layer_minimizer.pack import budget, bytecode, checksums, staging, stand_ins
from layer_minimizer.pack.budget import Oversized, evictable_files
from layer_minimizer.pack.libraries import Compactor, PackedLibrary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.outcome import Bundled, CompactedLibrary, LayerArchive, Requirements
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.settings import Settings

# What messages inside the layer call it; no name of the user's, so that equal files make equal bytes.
_LAYER = "made by layer_minimizer"


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer that was packed.

    ``shipped`` are the bytes that each installed file has in it, ``bundled`` the libraries of this machine in it,
    ``libraries`` what became of those whose pages were watched, ``warnings`` what may fail. ``final``: some of what
    was left out cannot come back.
    """

    archive: LayerArchive
    shipped: Mapping[str, int]
    bundled: tuple[Bundled, ...]
    libraries: Mapping[str, PackedLibrary]
    warnings: tuple[str, ...]
    final: bool

    @property
    def reports(self) -> tuple[CompactedLibrary, ...]:
        """What became of the libraries, for the report."""
        return tuple(library.report for library in self.libraries.values())


@dataclass(frozen=True, slots=True)
class _Contents:
    """What becomes of a plan's Python code.

    ``modules`` are the paths of all that is kept, ``texts`` of those among them that keep their source; ``cold`` has
    the sources of the others, too, which are ``bytecode_only``. ``standing`` are modules that another stands in for.
    """

    modules: frozenset[str]
    texts: frozenset[str]
    bytecode_only: frozenset[str]
    standing: tuple[TracedStandIn, ...]
    cold: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class _Staged:
    """A layer that is laid out: all its bytes, and those of each installed file; ``shares``: in the cold store."""

    contents: _Contents
    libraries: Mapping[str, PackedLibrary]
    written: int
    shipped: Mapping[str, int]
    shares: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the layers of one traced workload below ``scratch``; ``part`` is the zip that it writes.

    ``compactor`` remembers the libraries that it has compacted: a plan may need repair.
    """

    traced: Traced
    site: Site
    settings: Settings
    part: Path
    scratch: Path
    compactor: Compactor | None

    @classmethod
    def of(cls, traced: Traced, site: Site, settings: Settings, part: Path, scratch: Path) -> Builder:
        """Return a builder, with libraries compacted where that is wanted and possible."""
        compactor = Compactor.of(traced, site, settings, scratch / "libraries")
        return cls(traced, site, settings, part, scratch, compactor)

    def pack(
        self, plan: KeepPlan, adjustments: Adjustments, required: Requirements, reserved: budget.ReservedBytes
    ) -> Packed | Oversized:
        """Write the layer of ``plan``; ``reserved`` is what it shares its limit with.

        Raises:
            PackError: it cannot be written, or is too large whatever is left out.
        """
        settings = self.settings
        if self.compactor is None and settings.bytecode == "source":
            settings.budget.check(plan, reserved)  # before anything is copied
        staged = self._staged(plan, adjustments, required)
        excess = staged.written + reserved.total - settings.budget.limit
        if excess > 0:
            chunks = [chunk for _path, each in sorted(staged.libraries.items()) for chunk in each.chunks]
            return Oversized(
                excess=excess,
                sizes=_by_distribution(staged, plan, required),
                shipped=staged.shipped,
                bytecode_only=staged.contents.bytecode_only,
                evictable=(*chunks, *evictable_files(plan, staged.shares)),
            )
        archive = write_zip(self._folder, self.part)
        if settings.runtime:
            refuse_entries(entries(self.part))
        shutil.rmtree(self._folder, ignore_errors=True)
        return Packed(
            archive=archive,
            shipped=staged.shipped,
            bundled=required.bundled,
            libraries=staged.libraries,
            warnings=(*required.warnings, *self._warnings(adjustments, staged.contents)),
            final=settings.cold is Cold.DROP or any(each.report.dropped for each in staged.libraries.values()),
        )

    def _warnings(self, adjustments: Adjustments, contents: _Contents) -> Iterable[str]:
        """Say what there was no room for."""
        if omitted := ", ".join(sorted(adjustments.omitted_distributions)):
            yield f"there is no room for what code in the layer names and no event needed: {omitted}"
        if not adjustments.keep_c_opened:
            yield "there is no room to lay out what no event used and code in C could open"
        if self.settings.cold is Cold.KEEP and contents.bytecode_only & adjustments.omitted_cold:
            yield "there is no room for the sources of modules that are shipped as bytecode"

    @property
    def _folder(self) -> Path:
        return self.scratch / "stage"

    # ---- laying it out ----------------------------------------------------------------------------------------------

    def _staged(self, plan: KeepPlan, adjustments: Adjustments, required: Requirements) -> _Staged:
        """Lay the layer out: the installed files, then the runtime and its stores, then bytecode, then checksums."""
        shutil.rmtree(self._folder, ignore_errors=True)
        settings, top = self.settings, self._folder / self.settings.layout.prefix(plan.python)
        libraries = self._compacted(plan, adjustments)
        staging.stage(
            plan,
            self.site.inventory,
            self._folder,
            settings.layout,
            lambda path, _source, top: libraries[path].place(top) if path in libraries else 0,
            self.site.copies,
        )
        if self.compactor and any(library.file for library in libraries.values()):
            self.compactor.place_runtime(top)
        staging.add_libraries(required.bundled, self._folder)
        contents = self._contents(plan, adjustments)
        compiler = self._compiler(adjustments)
        shares: Mapping[str, int] = {}
        if contents.standing or contents.cold:
            shares = self._write_cold(plan, contents.cold, top)
            stand_ins.write_stand_ins(
                contents.standing, top, compiler, layer=_LAYER, kept=settings.cold is not Cold.DROP
            )
        packed = self._write_bytecode(plan, contents, top, compiler)
        if (top / cold_store.PACKAGE).exists():
            checksums.write_sums(top, self._needs_of(plan), base_layers.is_compacted)
        shipped = {d.path: _shipped_bytes(top, d.path, libraries) for d in plan.kept}
        for stem, content in packed.items():
            shipped[f"{stem}.py"] += len(content)
        for path, size in shares.items():
            shipped[path] = shipped.get(path, 0) + size
        return _Staged(contents, libraries, _bytes_below(self._folder), shipped, shares)

    def _compacted(self, plan: KeepPlan, adjustments: Adjustments) -> dict[str, PackedLibrary]:
        """Return what becomes of the libraries whose pages were watched, but for those that are links."""
        if self.compactor is None:
            return {}
        repaired: set[str] = set()
        if self.settings.cold is Cold.DROP:
            # What the traced run could do without has no touched pages, and nothing else would ever come back.
            repaired = {d.path for d in plan.kept if d.reason is Reason.REPAIRED}
        kept = {d.path for d in plan.kept}
        found = {}
        for path in (d.path for d in plan.kept if ".so" in d.path):
            if staging.link_of(self.site.files[path], kept, self.site.copies):
                continue
            if made := self.compactor.compacted(path, adjustments, whole=path in repaired):
                found[path] = made
        return found

    def _contents(self, plan: KeepPlan, adjustments: Adjustments) -> _Contents:
        settings = self.settings
        kept = [self.site.files[d.path] for d in plan.kept]
        code = {
            file.path for file in kept if file.path.endswith(".py") and modules.module_name(file.path) and not file.link
        }
        if settings.bytecode in ("both", "source"):
            texts = code
        elif settings.bytecode == "auto":
            read = {file.path for file in self.traced.trace.files if Use.TEXT in file.uses}
            texts = {path for path in code if path in read or path in adjustments.with_source}
        else:
            texts = set()
        # Without a way back nobody finds a source in the cold store.
        bytecode_only = set() if settings.cold is Cold.DROP else code - texts
        cold = (*plan.cold, *(d for d in plan.kept if d.path in bytecode_only))
        stood_in = {d.path for d in plan.decisions if d.reason is Reason.STAND_IN}
        return _Contents(
            modules=frozenset(code),
            texts=frozenset(texts),
            bytecode_only=frozenset(bytecode_only),
            standing=tuple(module for module in self.traced.trace.stand_ins if module.path in stood_in),
            cold=tuple(d for d in cold if d.path not in adjustments.omitted_cold),
        )

    # ---- bytecode ---------------------------------------------------------------------------------------------------

    def _compiler(self, adjustments: Adjustments) -> bytecode.Compiler:
        wanted = adjustments.with_docstrings
        return bytecode.Compiler(
            self.site.interpreter,
            layout.place_in_lambda(self.settings.layout, self.traced.trace.python),
            self.scratch / "compile",
            documented=None if wanted.everything or not self.settings.strip_docstrings else wanted.names,
        )

    def _write_bytecode(
        self, plan: KeepPlan, contents: _Contents, top: Path, compiler: bytecode.Compiler
    ) -> Mapping[str, bytes]:
        """Put bytecode in the place of sources; return what is compressed of it, by module."""
        if self.settings.bytecode == "source":
            return {}
        bytecode.compile_modules(sorted(contents.modules), top, compiler, with_source=contents.texts)
        packed = self._write_packed(plan, contents, top, compiler) if self.settings.bytecode == "auto" else {}
        runtime = [path.relative_to(top).as_posix() for path in sorted((top / cold_store.PACKAGE).glob("*.py"))]
        bytecode.compile_modules(runtime, top, compiler, with_source=())
        packed_bytecode.pack_runtime(top)
        return packed

    def _write_packed(
        self, plan: KeepPlan, contents: _Contents, top: Path, compiler: bytecode.Compiler
    ) -> Mapping[str, bytes]:
        """Compress the modules that are laid out as bytecode alone, if that is worth it; return what each became."""
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

    # ---- the cold store ---------------------------------------------------------------------------------------------

    def _write_cold(self, plan: KeepPlan, cold: Iterable[Decision], top: Path) -> dict[str, int]:
        """Write the cold store, which also knows what was dropped with its whole distribution."""
        there = (Reason.STAND_IN, Reason.PROVIDED)
        present = {d.distribution for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason in there}
        dropped = {
            d.path.split("/", 1)[0].removesuffix(".py"): d.distribution
            for d in plan.decisions
            if d.distribution not in present and modules.module_name(d.path) and d.reason is not Reason.PROVIDED
        }
        versions = {each.name: each.version for each in self.site.inventory.distributions}
        brought = {d.distribution for d in (*plan.kept, *plan.cold)} | {
            d.distribution for d in plan.decisions if d.reason is Reason.STAND_IN
        }
        files = [cold_store.ColdFile(d.path, self.site.sources[d.path], self._needs(d.path)) for d in cold]
        return cold_store.write_store(
            files,
            top,
            layer=_LAYER,
            dropped=dropped,
            distributions={name: versions[name] for name in brought & versions.keys()},
            customized=self.site.base.customized,
        )

    def _needs_of(self, plan: KeepPlan) -> Callable[[str], tuple[str, ...]]:
        """Return a function that tells the needs of the plan's own libraries, and none of what was added to them."""
        kept = {decision.path for decision in plan.kept}
        return lambda path: tuple(needed for needed in self._needs(path) if needed in kept) if path in kept else ()

    def _needs(self, path: str) -> tuple[str, ...]:
        """Return all site libraries that a library needs."""
        found = self.site.library_closure([path]) if elf.is_elf_name(path) else ()
        return tuple(sorted({needed for needed, _ in found} - {path}))


def _shipped_bytes(top: Path, path: str, libraries: Mapping[str, PackedLibrary]) -> int:
    """Return the bytes of what stands for an installed file in the staged layer, whatever became of it."""
    file = top / path
    compiled = [file.with_suffix(".pyc"), *(file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
    places = [file, *(compiled if path.endswith(".py") else ())]
    found = [place for place in places if place.is_symlink() or place.exists()]
    size = libraries[path].report.cold if path in libraries else 0
    for place in found:
        size += place.lstat().st_size
    return size


def _bytes_below(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_symlink() or file.is_file())


def _by_distribution(staged: _Staged, plan: KeepPlan, required: Requirements) -> Counter[str]:
    """Return what each distribution takes in the layer; what belongs to none is the layer's own runtime, too."""
    owners = {decision.path: decision.distribution for decision in (*plan.kept, *plan.cold)}
    sizes = Counter[str]()
    for path, size in staged.shipped.items():
        sizes[owners[path] or layout.NO_DISTRIBUTION] += size
    for library in required.bundled:
        sizes[layout.SYSTEM_LIBRARIES] += library.bytes
    sizes[layout.NO_DISTRIBUTION] += staged.written - sizes.total()
    return sizes
