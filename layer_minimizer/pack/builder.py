"""Builds a layer from a plan: copied files, compacted libraries, stand-ins, the cold store, bytecode; then the zip."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.core.compression import Density
from layer_minimizer.layer import cold_store, folder_orders, layout, packed_bytecode, snapshot_list
from layer_minimizer.layer.archive import check_entries, write_zip, zip_entries
from layer_minimizer.layer.cold_chunks import ColdFile
from layer_minimizer.layer.formats import Format
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold, KeepPlan, Reason
from layer_minimizer.model.snapshot import PutBack
from layer_minimizer.model.trace import Use
from layer_minimizer.native import parts
from layer_minimizer.pack import budget, bytecode, checksums, cold_files, staging, stand_ins
from layer_minimizer.pack.budget import Budget, Oversized
from layer_minimizer.pack.contents import Contents
from layer_minimizer.pack.equal_texts import equal_texts
from layer_minimizer.pack.gpu_libraries import GpuLibraries
from layer_minimizer.pack.libraries import Compactor, PackedLibrary, mark_page_size, native_runtime, place_runtime
from layer_minimizer.pack.staged import Staged, bytes_below, shipped_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.outcome import Bundled, LayerArchive, LibrarySizes, Requirements, RuntimeDistributions
    from layer_minimizer.model.trace import TracedStandIn
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.settings import Settings


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer that was written.

    ``shipped`` are the bytes of each installed file in the layer, ``bundled`` the libraries of this machine in it,
    ``libraries`` the results for the libraries whose pages were traced, ``warnings`` what may fail. ``lossy``: some of
    what was left out cannot be restored at run time. ``brought``: where the distributions of the runtime come from.
    ``put_back``: what is put back before a snapshot of the function. ``standard``: modules of the standard library that
    stand-ins replace.
    """

    archive: LayerArchive
    shipped: Mapping[str, int]
    bundled: tuple[Bundled, ...]
    libraries: Mapping[str, PackedLibrary]
    warnings: tuple[str, ...]
    lossy: bool
    brought: RuntimeDistributions | None = None
    put_back: PutBack = field(default_factory=PutBack)
    standard: tuple[str, ...] = ()

    @property
    def library_sizes(self) -> tuple[LibrarySizes, ...]:
        """Sizes of the libraries whose pages were traced, for the report."""
        return tuple(library.sizes for library in self.libraries.values())


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the layers of one traced workload in ``scratch`` and writes each to ``zip_path``.

    ``compactor`` caches compacted libraries, because several layers may be built before one is verified; ``gpu`` does
    that for libraries for a GPU. ``runtime`` is the native runtime, without which no file can be cold.
    """

    traced: Traced
    site: Site
    settings: Settings
    zip_path: Path
    scratch: Path
    compactor: Compactor | None
    gpu: GpuLibraries | None
    runtime: Path | None

    @classmethod
    def of(cls, traced: Traced, site: Site, settings: Settings, zip_path: Path, scratch: Path) -> Builder:
        """Return a builder that compacts libraries if the settings ask for it and this machine can do it."""
        compactor = Compactor.of(traced, site, settings, scratch / "libraries")
        gpu = GpuLibraries.of(traced, site, settings, scratch / "gpu")
        runtime = native_runtime(settings, site.interpreter.machine)
        return cls(traced, site, settings, zip_path, scratch, compactor, gpu, runtime)

    def pack(
        self, plan: KeepPlan, adjustments: Adjustments, required: Requirements, reserved: budget.ReservedBytes
    ) -> Packed | Oversized:
        """Write the layer of ``plan``. ``reserved`` are the other bytes that count for the same limit.

        Raises:
            PackError: it cannot be written, or the kept files alone exceed the limit.
        """
        settings = self.settings
        if self.compactor is None and settings.bytecode == "source":
            Budget.of(settings).check(plan, reserved)  # before anything is copied
        if oversized := self._estimated(plan, adjustments, required, reserved):
            return oversized
        staged = self._staged(plan, adjustments, required)
        excess = staged.written + reserved.total - Budget.of(settings).limit
        if excess > 0:
            return staged.oversized(excess, plan, required, dense=adjustments.dense)
        archive = write_zip(self._folder, self.zip_path, compressed=settings.format is Format.LAYER)
        if settings.runtime:
            check_entries(zip_entries(self.zip_path))
        shutil.rmtree(self._folder, ignore_errors=True)
        return Packed(
            archive=archive,
            shipped=staged.shipped,
            bundled=required.bundled,
            libraries=staged.libraries,
            warnings=(*required.warnings, *self._warnings(adjustments, staged.contents)),
            lossy=settings.cold is Cold.DROP or any(each.sizes.dropped for each in staged.libraries.values()),
            brought=required.brought,
            put_back=staged.put_back,
            standard=staged.standard,
        )

    def _estimated(
        self, plan: KeepPlan, adjustments: Adjustments, required: Requirements, reserved: budget.ReservedBytes
    ) -> Oversized | None:
        """Return what is too large even if all is compressed most, as a sample shows; None if it may fit.

        To compress all of a layer of many times the limit takes minutes.
        """
        limit = Budget.of(self.settings)
        compressed = self.runtime and self.settings.cold is not Cold.DROP and adjustments.density < budget.ALL
        if not compressed or not limit.is_far_exceeded(plan, reserved):
            return None
        staged = self._staged(plan, replace(adjustments, density=budget.ALL), required, sampled=True)
        excess = staged.written + reserved.total - limit.limit
        return staged.oversized(excess, plan, required, dense=True, estimated=True) if excess > 0 else None

    def _warnings(self, adjustments: Adjustments, contents: Contents) -> Iterable[str]:
        """Yield a warning for each kind of files that did not fit into the size limit."""
        if omitted := ", ".join(sorted(adjustments.omitted_distributions)):
            yield f"omitted to fit the size limit: distributions named in code that no event needed: {omitted}"
        if self.settings.cold is Cold.KEEP and contents.bytecode_only & adjustments.omitted_cold:
            yield "omitted to fit the size limit: sources of modules that are shipped as bytecode"
        if contents.laid_out:
            size = sum(decision.size for decision in contents.laid_out)
            off = "--native off: shared libraries are shipped whole"
            why = parts.unavailable_reason(self.site.interpreter.machine) or off
            yield f"{size / 1e6:,.1f} MB of unused files lie in the layer uncompressed, for want of a way back: {why}"

    @property
    def _folder(self) -> Path:
        return self.scratch / "stage"

    # ---- staging ----------------------------------------------------------------------------------------------------

    def _staged(
        self, plan: KeepPlan, adjustments: Adjustments, required: Requirements, *, sampled: bool = False
    ) -> Staged:
        """Write the layer's folder: installed files, then the runtime and its stores, then bytecode, then checksums.

        ``sampled``: only a sample of unused files and pages is compressed, to estimate the layer's size.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        settings, top = self.settings, self._folder / self.settings.layout.prefix(plan.python)
        density = Density(adjustments.density, sampled)
        libraries = self._compacted(plan, adjustments, sampled=sampled)
        contents = self._contents(plan, adjustments)
        staging.stage(
            plan,
            self.site.inventory,
            self._folder,
            settings.layout,
            lambda path, _source, top: libraries[path].place(top) if path in libraries else 0,
            {**self.site.copies, **equal_texts(plan, self.site.sources)},
            {decision.path for decision in contents.laid_out},
        )
        staging.add_libraries(required.bundled, self._folder)
        compiler = self._compiler(adjustments)
        contents = self._compiled(contents, top, compiler)
        store = self._write_store(plan, contents, top, density)
        if contents.replaced:
            kept = settings.cold is not Cold.DROP
            stand_ins.write_stand_ins(contents.replaced, top, compiler, kept=kept, compressed=adjustments.dense)
        packed = self._write_bytecode(contents, top, compiler, adjustments)
        cold_store.write_links(store, top)
        if self.traced.trace.listed:
            folder_orders.write_orders(top, self.traced.trace.listed)
        put_back = PutBack()
        standard: tuple[str, ...] = ()
        if (top / cold_store.PACKAGE).is_dir():
            standard = tuple(sorted(module.name for module in contents.standard))
            compacted = (path for path, each in libraries.items() if each.sizes.cold)
            put_back = contents.put_back(self.traced.needs, compacted)
            snapshot_list.write_list(put_back, top)
        if self.runtime and (store.name or any(library.file for library in libraries.values())):
            place_runtime(self.runtime, top)
            mark_page_size(libraries.values(), self.site.interpreter.machine, top)
        shares = {**store.shares, **{decision.path: decision.size for decision in contents.laid_out}}
        if (top / cold_store.PACKAGE).exists():
            checksums.write_checksums(top, self._needs_of(plan))
        shipped = {d.path: shipped_bytes(top, d.path, libraries) for d in plan.kept}
        for stem, content in packed.items():
            if f"{stem}.py" in shipped:  # else it is a stub
                shipped[f"{stem}.py"] += len(content)
        for path, size in shares.items():
            shipped[path] = shipped.get(path, 0) + size
        written, code = bytes_below(self._folder), sum(map(len, packed.values()))
        return Staged(contents, libraries, written, shipped, shares, code, put_back, standard)

    def _compacted(self, plan: KeepPlan, adjustments: Adjustments, *, sampled: bool) -> dict[str, PackedLibrary]:
        """Return the compacted form of the kept libraries whose pages were traced, except for links."""
        found = self.gpu.packed(plan, adjustments) if self.gpu else {}
        if self.compactor is None:
            return found
        repaired: set[str] = set()
        if self.settings.cold is Cold.DROP:
            # A library that only a repair added has no touched pages, and pages that are dropped cannot be restored.
            repaired = {d.path for d in plan.kept if d.reason is Reason.REPAIRED}
        kept = {d.path for d in plan.kept}
        for path in (d.path for d in plan.kept if ".so" in d.path and d.path not in found):
            if staging.link_target(self.site.files[path], kept, self.site.copies):
                continue
            if made := self.compactor.compacted(path, adjustments, whole=path in repaired, sampled=sampled):
                found[path] = made
        return found

    def _contents(self, plan: KeepPlan, adjustments: Adjustments) -> Contents:
        settings = self.settings
        kept = [self.site.files[d.path] for d in plan.kept]
        code = {
            file.path for file in kept if file.path.endswith(".py") and modules.module_name(file.path) and not file.link
        }
        if settings.bytecode in ("both", "source"):
            with_source = code
        elif settings.bytecode == "auto":
            read = {file.path for file in self.traced.trace.files if Use.TEXT in file.uses}
            with_source = {path for path in code if path in read or path in adjustments.with_source}
        else:
            with_source = set()
        # With --cold drop there is no cold store that could hold the sources.
        bytecode_only = set() if settings.cold is Cold.DROP else code - with_source
        unused = (*plan.cold, *(d for d in plan.kept if d.path in bytecode_only))
        # A zip has no other names than UTF-8 ones; kept files with such a name are refused.
        cold = tuple(d for d in unused if d.path not in adjustments.omitted_cold and staging.is_storable(d.path))
        paths = {d.path for d in plan.decisions if d.reason is Reason.STAND_IN}
        replaced = tuple(module for module in self.traced.trace.stand_ins if module.path in paths)
        standard: tuple[TracedStandIn, ...] = ()
        if settings.bytecode != "source" and not settings.prefers_small:
            found = tuple(module for module in self.traced.trace.stand_ins if not module.path)
            standard = stand_ins.worthwhile(found, replaced)
        return Contents(
            files=frozenset(file.path for file in kept),
            modules=frozenset(code),
            with_source=frozenset(with_source),
            bytecode_only=frozenset(bytecode_only),
            replaced=replaced,
            cold=cold if self.runtime else (),
            laid_out=() if self.runtime else cold,
            standard=standard,
        )

    # ---- bytecode ---------------------------------------------------------------------------------------------------

    def _compiler(self, adjustments: Adjustments) -> bytecode.Compiler:
        wanted = adjustments.with_docstrings
        return bytecode.Compiler(
            self.site.interpreter,
            layout.path_in_lambda(self.settings.layout, self.traced.trace.python),
            self.scratch / "compile",
            with_docstrings=None if wanted.everything or not self.settings.strip_docstrings else wanted.names,
        )

    def _compiled(self, contents: Contents, top: Path, compiler: bytecode.Compiler) -> Contents:
        """Replace sources by bytecode. Return the contents without modules that are not valid Python, which stay."""
        if self.settings.bytecode == "source":
            return contents
        invalid = bytecode.compile_modules(
            sorted(contents.modules), top, compiler, with_source=contents.beside_bytecode
        )
        return contents.without_modules(invalid)

    def _write_bytecode(
        self, contents: Contents, top: Path, compiler: bytecode.Compiler, adjustments: Adjustments
    ) -> Mapping[str, bytes]:
        """Pack bytecode, and compile the runtime. Return the bytecode that is packed, by module."""
        if self.settings.bytecode == "source":
            return {}
        packed: Mapping[str, bytes] = {}
        if self.settings.bytecode == "auto":
            packed = self._write_packed(contents, contents.beside_bytecode, top, compiler, adjustments)
        runtime = [path.relative_to(top).as_posix() for path in sorted((top / cold_store.PACKAGE).glob("*.py"))]
        small = self.settings.prefers_small
        starter = {cold_store.CUSTOMIZE} if not small and cold_store.has_customize(top) else set()
        bytecode.compile_modules([*runtime, *starter], top, compiler, with_source=starter)
        standard = contents.standard if (top / cold_store.PACKAGE).is_dir() else ()
        if standard:
            stand_ins.write_standard(standard, top)
        packed_bytecode.pack_runtime(
            top, compressed=adjustments.dense, small=small, stand_ins=bool(contents.replaced or standard)
        )
        return packed

    def _write_packed(
        self,
        contents: Contents,
        with_source: frozenset[str],
        top: Path,
        compiler: bytecode.Compiler,
        adjustments: Adjustments,
    ) -> Mapping[str, bytes]:
        """Pack modules that are shipped without source, if there are enough of them. Return their bytecode."""
        names = Counter(modules.module_name(path) for path in contents.files)
        # Where several files provide one module, Python chooses by their suffixes, so they have to stay in place.
        alone = (path for path in contents.modules - with_source if names[modules.module_name(path)] == 1)
        stems = [path.removesuffix(".py") for path in sorted(alone) if not (top / path).exists()]
        stubs = [stand_ins.stub_path(module.path).removesuffix(".pyc") for module in contents.replaced]
        packable = sorted({*stems, *stubs})
        started = (top / cold_store.PACKAGE).exists()
        if not packed_bytecode.is_worth_it(packable, top, 0 if started else cold_store.runtime_bytes()):
            return {}
        if not started:
            version = self.site.interpreter.version
            cold_store.write_runtime(top, version, customized=self.site.base.has_sitecustomize)
        packed = packed_bytecode.read(packable, top, compressed=adjustments.dense)
        packed_bytecode.pack(packed, top)
        stand_ins.write_starters(packed_bytecode.modules_to_start(packed), top, compiler)
        return packed

    # ---- the cold store ---------------------------------------------------------------------------------------------

    def _write_store(self, plan: KeepPlan, contents: Contents, top: Path, density: Density) -> cold_store.Store:
        """Write the cold store, the native runtime, and which files the layer does not have."""
        versions = {each.name: each.version for each in self.site.inventory.distributions}
        for_gpu = self.site.for_gpu(self.settings.gpu)
        missing = cold_files.left_out(plan, contents.placed, versions, self.settings.cold, for_gpu)
        if not (contents.replaced or contents.cold or (missing and self.runtime) or self.traced.trace.listed):
            return cold_store.Store("", {})
        included = cold_files.distributions(plan)
        sources = self.site.sources
        files = (
            ColdFile(
                d.path,
                sources[d.path],
                self._needs(d.path),
                cold_files.owner(d, versions),
                contents.order_of_omission(d),
            )
            for d in contents.cold
        )
        return cold_store.write_store(
            files,
            missing,
            top,
            dropped=cold_files.dropped_modules(plan),
            distributions={name: versions[name] for name in included & versions.keys()},
            python=self.site.interpreter.version,
            customized=self.site.base.has_sitecustomize,
            density=density,
        )

    def _needs_of(self, plan: KeepPlan) -> Callable[[str], tuple[str, ...]]:
        """Return a function that returns the kept libraries needed by a kept library, and nothing for other files."""
        kept = {decision.path for decision in plan.kept}
        return lambda path: tuple(needed for needed in self._needs(path) if needed in kept) if path in kept else ()

    def _needs(self, path: str) -> tuple[str, ...]:
        """Return all libraries in the site that a library needs, directly or not."""
        found = self.site.library_closure([path]) if elf.is_elf_name(path) else ()
        return tuple(sorted({needed for needed, _ in found} - {path}))
