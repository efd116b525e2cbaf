"""Results of packing and verifying a layer: archives, sizes of libraries, proofs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layer_minimizer.model.snapshot import PutBack


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """The zip of a layer.

    Attributes:
        path: its path.
        sha256: its digest.
        files: the number of files in it.
        unzipped_bytes: the size of the files.
        zipped_bytes: the size of the zip.
    """

    path: Path
    sha256: str
    files: int
    unzipped_bytes: int
    zipped_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionArchive:
    """The zip of a function.

    Attributes:
        archive: the zip.
        model_bytes: the size of the models in it.
        left_out: files of the entry's folder that are not in it.
    """

    archive: LayerArchive
    model_bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LibrarySizes:
    """The sizes of a shared library before and after compaction, in bytes.

    Attributes:
        path: its path relative to site-packages.
        file: the size of the original file.
        mapped: how much of it the loader maps into memory.
        hot: how much of that is shipped uncompressed.
        shipped: the size of the file in the layer.
        cold: the size of its compressed cold pages.
        dropped: the size of pages that are omitted and cannot be restored.
        problem: why it is shipped whole, or empty.
        gpu: whether it is for a GPU: of such a library all pages that no event used are dropped.
    """

    path: str
    file: int
    mapped: int
    hot: int
    shipped: int
    cold: int
    dropped: int
    problem: str
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Bundled:
    """A library of this machine that is shipped in the layer's ``lib`` folder, because Lambda's runtime may lack it.

    Attributes:
        name: its file name.
        source: its path on this machine.
        needed_by: a file in the layer that loads it.
        bytes: its size.
    """

    name: str
    source: str
    needed_by: str
    bytes: int


@dataclass(frozen=True, slots=True)
class RuntimeDistributions:
    """Where the distributions come from that the runtime brings, too.

    Attributes:
        runtime: the name of the runtime.
        layer: those of which the layer, or another layer, has a copy, which comes first.
        own: those that come from the runtime.
    """

    runtime: str
    layer: tuple[str, ...]
    own: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a layer needs to work in a runtime.

    Attributes:
        bundled: libraries of this machine that must be shipped in the layer.
        warnings: what may fail in the runtime.
        brought: where the distributions come from that the runtime brings; None without a runtime.
    """

    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()
    brought: RuntimeDistributions | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of packing and of the verifying runs.

    Attributes:
        events: the number of events with the expected result.
        repaired: files that were added because runs on the layer needed them.
        isolated: whether the original environment was hidden by mounts.
        runs: the number of runs on the final layer.
        cold_faults: how often a page of a library was restored from the cold store.
        shipped: the size of each installed file in the layer, in bytes, whatever its form there.
        libraries: the sizes of the shared libraries.
        bundled: libraries of this machine in the layer.
        warnings: what the runs could not verify.
        brought: where the distributions come from that the runtime brings; None without ``--runtime``.
        put_back: what is put back before a snapshot of the function.
        standard: modules of the standard library that stand-ins replace.
    """

    events: int
    repaired: tuple[str, ...]
    isolated: bool
    runs: int
    cold_faults: int = 0
    shipped: Mapping[str, int] = field(default_factory=dict)
    libraries: tuple[LibrarySizes, ...] = ()
    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()
    brought: RuntimeDistributions | None = None
    put_back: PutBack = field(default_factory=PutBack)
    standard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportTimes:
    """Seconds that the imports of each distribution take; a module's time does not include its imports.

    The empty name stands for the entry, the standard library and all other modules without a distribution.

    Attributes:
        before: times in the full environment.
        after: times on the layer.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form for the report."""
        return {
            name: {"seconds": round(sum(seconds.values()), 4), "distributions": dict(seconds)}
            for name, seconds in (("before", self.before), ("after", self.after))
        }


@dataclass(frozen=True, slots=True)
class Start:
    """What a cold start of the function takes, as measured on this machine.

    Attributes:
        seconds: how long the import of the handler's module takes.
        peak_bytes: the peak memory (resident set) of a run with all events.
    """

    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Starts:
    """Cold starts in the full environment (``before``) and on the layer (``after``)."""

    before: Start
    after: Start


@dataclass(frozen=True, slots=True)
class Emulated:
    """The results of the verification in emulated Lambda.

    Attributes:
        events: the number of events with the expected result.
        init_seconds: the duration of the init phase.
        peak_bytes: peak memory.
        tmp_bytes: peak size of the files in /tmp.
        memory: the memory limit in MB.
        tmp_size: the size of /tmp in MB.
        where: ``namespaces``, or the image that the function ran in.
        skipped: events that were not run, because they set fields of the context.
        warnings: what may fail in Lambda.
    """

    events: int
    init_seconds: float
    peak_bytes: int
    tmp_bytes: int
    memory: int
    tmp_size: int
    where: str
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
