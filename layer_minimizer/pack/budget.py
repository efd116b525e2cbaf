"""Checks whether a layer fits into the size limit, and selects what to omit if it does not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.aws.limits import (
    LAMBDA_DIRECT_UPLOAD_BYTES,
    LAMBDA_IMAGE_BYTES,
    LAMBDA_TMP_BYTES,
    LAMBDA_UNZIPPED_BYTES,
)
from layer_minimizer.core.errors import PackError
from layer_minimizer.layer.formats import Format
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.adjustments import Adjustments, OmittedChunk
from layer_minimizer.model.plan import Cold, KeepPlan, Reason
from layer_minimizer.pack.libraries import EvictableChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.outcome import FunctionArchive, LayerArchive
    from layer_minimizer.settings import Settings

# Estimated likelihood that another input needs a file: one replaced by a stand-in, one in a folder without used files.
_STAND_IN_LIKELIHOOD, _UNUSED_FOLDER_LIKELIHOOD = 0.5, 0.001

# The share of the bytes of compressed pages that larger chunks save at best.
_LARGE_GAIN = 0.12
# The share of the bytes that more compression certainly saves: of compressed pages (8 %) and files (20 %), of bytecode.
_DENSITY_GAIN, _BYTECODE_GAIN = 0.06, 0.5
# The share that it saves at best.
_MOST_DENSITY_GAIN, _MOST_BYTECODE_GAIN = 0.25, 0.7
ALL = 100  # percent of what is compressed as much as possible
# An estimate of the compressed bytes may be wrong by this share of them; that of a single file by more.
_SAMPLING_ERROR, _SHARE_ERROR = 0.02, 0.25
# Files whose bytes are more than so many times the limit hardly fit however much they are compressed.
_FAR_EXCEEDED = 3


@dataclass(frozen=True, slots=True)
class EvictableFile:
    """A cold file that could be omitted: its likelihood to be needed (0 to 1) and its bytes in the cold store."""

    likelihood: float
    size: int
    path: str


Evictable = EvictableFile | EvictableChunk


@dataclass(frozen=True, slots=True)
class Oversized:
    """A layer that was staged and is ``excess`` bytes too large.

    ``shipped`` are the bytes of each installed file in the layer, ``sizes`` those of each distribution.
    ``bytecode_only`` are modules whose source is cold, ``evictable`` files and chunks that could be omitted.
    ``stored`` are the bytes of compressed files and pages, ``uncompressed`` those of bytecode that is not compressed.
    ``estimated``: of files and pages only a sample was compressed, as much as possible.
    """

    excess: int
    sizes: Counter[str]
    shipped: Mapping[str, int] = field(default_factory=dict)
    bytecode_only: frozenset[str] = frozenset()
    evictable: tuple[Evictable, ...] = ()
    stored: int = 0
    uncompressed: int = 0
    estimated: bool = False


def adjust_to_limit(
    adjustments: Adjustments, plan: KeepPlan, layer: Oversized, settings: Settings, reserved: ReservedBytes
) -> Adjustments:
    """Return adjustments that make the next layer smaller: first by compressing more, then by omitting something.

    What even the best compression cannot make room for is omitted at once, so that it is not compressed in vain.
    If nothing more may be omitted, more pages are compressed together.

    Raises:
        PackError: nothing more can be omitted.
    """
    if layer.estimated:
        excess = math.ceil(layer.excess - _SAMPLING_ERROR * layer.stored)
        most = {path: math.ceil(size * (1 + _SHARE_ERROR)) for path, size in layer.shipped.items()}
        return _omit_unused(replace(adjustments, density=ALL), plan, replace(layer, excess=excess, shipped=most))
    if adjustments.density < ALL and layer.stored + layer.uncompressed:
        denser = replace(adjustments, density=_denser(adjustments, layer))
        saved = _MOST_DENSITY_GAIN * layer.stored + _MOST_BYTECODE_GAIN * layer.uncompressed
        return _omit_unused(denser, plan, replace(layer, excess=math.ceil(layer.excess - saved)))
    if any(decision.reason is Reason.REACHABLE for decision in plan.decisions):
        return _omit_unused(adjustments, plan, layer)
    if settings.cold is Cold.KEEP and (sources := layer.bytecode_only - adjustments.omitted_cold):
        return replace(adjustments, omitted_cold=adjustments.omitted_cold | sources)
    if settings.cold is Cold.AUTO and layer.evictable:
        return _omit_unlikely(adjustments, layer)
    if settings.cold is Cold.KEEP and not adjustments.large_chunks and layer.excess <= _LARGE_GAIN * _page_bytes(layer):
        return replace(adjustments, large_chunks=True)
    raise Budget.of(settings).error(layer.sizes, reserved)


def _page_bytes(layer: Oversized) -> int:
    """Return the bytes of the compressed pages of libraries."""
    return sum(each.size for each in layer.evictable if isinstance(each, EvictableChunk))


def _denser(adjustments: Adjustments, layer: Oversized) -> int:
    """Return the percentage of what has to be compressed as much as possible; everything, if that was tried before."""
    lacking = layer.excess - _BYTECODE_GAIN * layer.uncompressed
    if adjustments.density or lacking > _DENSITY_GAIN * layer.stored:
        return ALL
    return max(1, math.ceil(ALL * lacking / (_DENSITY_GAIN * layer.stored))) if lacking > 0 else 1


def _omit_unused(adjustments: Adjustments, plan: KeepPlan, layer: Oversized) -> Adjustments:
    """Omit distributions that no event needed but code names, the largest first, until enough bytes are saved."""
    named = {d.distribution for d in plan.decisions if d.reason is Reason.REACHABLE}
    sizes = Counter[str]()
    for decision in plan.decisions:
        if decision.distribution in named:
            sizes[decision.distribution] += layer.shipped.get(decision.path, 0)
    excess, omitted = layer.excess, set(adjustments.omitted_distributions)
    for name, size in sizes.most_common():
        if excess > 0:
            omitted.add(name)
            excess -= size
    return replace(adjustments, omitted_distributions=frozenset(omitted))


def _omit_unlikely(adjustments: Adjustments, layer: Oversized) -> Adjustments:
    """Omit cold files and chunks of cold pages, the least likely to be needed first."""
    dropped = list(_least_likely(layer.evictable, layer.excess))
    files = {each.path for each in dropped if isinstance(each, EvictableFile)}
    chunks = {
        OmittedChunk(each.path, adjustments.refills.get(each.path, 0), each.chunk)
        for each in dropped
        if isinstance(each, EvictableChunk)
    }
    return replace(
        adjustments,
        omitted_cold=adjustments.omitted_cold | files,
        omitted_chunks=adjustments.omitted_chunks | chunks,
    )


def _least_likely(evictable: Iterable[Evictable], excess: int) -> Iterator[Evictable]:
    """Yield the least likely to be needed first, until they are ``excess`` bytes together or none is left."""
    for each in sorted(evictable, key=_order):
        if excess > 0:
            excess -= each.size
            yield each


def _order(each: Evictable) -> tuple[float, int, str, int]:
    return each.likelihood, -each.size, each.path, each.chunk if isinstance(each, EvictableChunk) else -1


def evictable_files(plan: KeepPlan, shares: Mapping[str, int]) -> Iterator[EvictableFile]:
    """Yield the cold files with an estimated likelihood that another input needs them.

    The more files of its folder are used, the likelier a file is needed. ``shares`` are the bytes of each file in the
    cold store.
    """
    used = Counter(d.path.rpartition("/")[0] for d in plan.kept)
    everything = Counter(d.path.rpartition("/")[0] for d in plan.decisions)
    for decision in plan.cold:
        if decision.path in shares:
            folder = decision.path.rpartition("/")[0]
            likely = max(_UNUSED_FOLDER_LIKELIHOOD, _STAND_IN_LIKELIHOOD * used[folder] / everything[folder])
            likely = _STAND_IN_LIKELIHOOD if decision.reason in (Reason.STAND_IN, Reason.ASLEEP) else likely
            yield EvictableFile(likely, shares[decision.path], decision.path)


@dataclass(frozen=True, slots=True)
class ReservedBytes:
    """Bytes that count for the same limit as the layer: the function's code, its models and the base layers."""

    code: int = 0
    models: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.code + self.models + self.layers

    def __str__(self) -> str:
        """Return the sizes that are not zero, for messages."""
        parts = (("the function", self.code), ("its models", self.models), ("other layers", self.layers))
        return ", ".join(f"{name} {size:,}" for name, size in parts if size)


NOTHING_RESERVED = ReservedBytes()


@dataclass(frozen=True, slots=True)
class Budget:
    """The limit for the unzipped bytes of a layer plus the reserved ones. ``user_set``: it is from ``--max-size``."""

    limit: int = LAMBDA_UNZIPPED_BYTES
    user_set: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Budget:
        """Return the limit that the settings choose."""
        if settings.max_size is not None:
            return cls(settings.max_size, user_set=True)
        return cls() if settings.format is Format.LAYER else cls(LAMBDA_IMAGE_BYTES)

    @property
    def limit_name(self) -> str:
        """The name of the limit in messages."""
        if self.user_set:
            return "--max-size"
        what = "a container image" if self.limit == LAMBDA_IMAGE_BYTES else "a function and its layers together"
        return f"AWS Lambda's limit for {what}"

    def is_far_exceeded(self, plan: KeepPlan, reserved: ReservedBytes) -> bool:
        """Return whether the files of a plan, uncompressed, are many times what the limit leaves for them."""
        size = sum(decision.size for decision in (*plan.kept, *plan.cold))
        return size > _FAR_EXCEEDED * max(0, self.limit - reserved.total)

    def check(self, plan: KeepPlan, reserved: ReservedBytes = NOTHING_RESERVED) -> None:
        """Check the total size of the files that a plan keeps.

        Raises:
            PackError: it exceeds the limit; the message names the largest distributions and what to do.
        """
        sizes: Counter[str] = Counter()
        for decision in plan.kept:
            sizes[decision.distribution or NO_DISTRIBUTION] += decision.size
        self.check_sizes(sizes, reserved)

    def check_sizes(self, sizes: Counter[str], reserved: ReservedBytes = NOTHING_RESERVED) -> None:
        """Check the size of a layer with these bytes by distribution, as `check` does.

        Raises:
            PackError: it exceeds the limit.
        """
        if sizes.total() + reserved.total > self.limit:
            raise self.error(sizes, reserved)

    def error(self, sizes: Counter[str], reserved: ReservedBytes = NOTHING_RESERVED) -> PackError:
        """Return the error for a layer that is too large: its largest distributions, and what to do."""
        layer = sizes.total()
        excess = layer + reserved.total - self.limit
        largest = "\n".join(f"  {size / 1e6:9.1f} MB  {name}" for name, size in sizes.most_common(10))
        together = f", and {layer + reserved.total:,} together with {reserved}" if reserved.total else ""
        model = f"{size_advice(self, layer, reserved)}; or " if excess <= reserved.models else ""
        top = next(iter(sizes.most_common(1)), (NO_DISTRIBUTION, 0))[0]
        return PackError(
            f"the layer would be {layer:,} bytes unzipped{together}; {self.limit_name} is {self.limit:,}.\n"
            f"The largest distributions in it:\n{largest}\n"
            f"What to do: {model}put a large one into a separate layer and name it with --provided {top}; "
            f"exclude files that are not needed with --exclude; see why one is kept with --explain {top}; "
            "or, for a container image or another target without this limit, raise it with --max-size 1GB"
        )


def size_advice(budget: Budget, layer: int, reserved: ReservedBytes) -> str:
    """Return advice for a layer of ``layer`` bytes that exceeds the limit only together with the reserved bytes."""
    excess = layer + reserved.total - budget.limit
    if excess > reserved.models:
        return f"make the layer smaller: --max-size {budget.limit - reserved.total} --cold auto makes it fit"
    tmp = (
        "" if reserved.models < LAMBDA_TMP_BYTES else f" (set ephemeral storage to more than {reserved.models:,} bytes)"
    )
    return (
        f"keep the models ({reserved.models:,} bytes) out of the function's zip: with them it is {excess:,} bytes over "
        f"the limit, without them {reserved.models - excess:,} under it. The handler can load them from S3 "
        f"into /tmp{tmp} when it starts, or from an EFS file system"
    )


def upload_warnings(archive: LayerArchive, prefix: str = "") -> tuple[str, ...]:
    """Return a warning, starting with ``prefix``, if a zip is too large for a direct upload."""
    if archive.zipped_bytes <= LAMBDA_DIRECT_UPLOAD_BYTES:
        return ()
    size = f"{archive.zipped_bytes:,} bytes zipped exceed the {LAMBDA_DIRECT_UPLOAD_BYTES:,} of a direct upload"
    return (f"{prefix}{size}: upload it through S3",)


def function_warnings(
    budget: Budget, layer: LayerArchive, function: FunctionArchive | None, reserved: ReservedBytes
) -> tuple[str, ...]:
    """Return warnings about the size of the function's zip, or about the space that the layer leaves for one."""
    if function:
        return upload_warnings(function.archive, "the function: ")
    if layer.unzipped_bytes + reserved.total <= budget.limit:
        return ()
    fits = size_advice(budget, layer.unzipped_bytes, reserved)
    return (f"the layer leaves no room for all of the function ({reserved} bytes): {fits}",)
