"""Whether a layer fits into the size limit, and what can be left out where it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.aws.limits import LAMBDA_DIRECT_UPLOAD_BYTES, LAMBDA_TMP_BYTES, LAMBDA_UNZIPPED_BYTES
from layer_minimizer.core.errors import PackError
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.adjustments import Adjustments, OmittedChunk
from layer_minimizer.model.plan import Cold, KeepPlan, Reason
from layer_minimizer.pack.libraries import EvictableChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.outcome import LayerArchive
    from layer_minimizer.settings import Settings

# How likely it is that another input needs what only stands in, and what lies beside nothing that is used.
_STOOD_IN, _ALONE = 0.5, 0.001


@dataclass(frozen=True, slots=True)
class EvictableFile:
    """A cold file that could be left out: how likely it is to be needed (0 to 1), and what it costs in the store."""

    likelihood: float
    size: int
    path: str


Evictable = EvictableFile | EvictableChunk


@dataclass(frozen=True, slots=True)
class Oversized:
    """A layer that was laid out and is too large, by ``excess`` bytes.

    ``shipped`` are the bytes that each installed file has in it, ``sizes`` those of each distribution;
    ``bytecode_only`` are modules whose source is cold, ``evictable`` is what could be left out.
    """

    excess: int
    sizes: Counter[str]
    shipped: Mapping[str, int] = field(default_factory=dict)
    bytecode_only: frozenset[str] = frozenset()
    evictable: tuple[Evictable, ...] = ()


def reduced(
    adjustments: Adjustments, plan: KeepPlan, layer: Oversized, settings: Settings, reserved: ReservedBytes
) -> Adjustments:
    """Return adjustments with which the next layer is smaller.

    Raises:
        PackError: there is nothing that could be left out.
    """
    if any(decision.reason in (Reason.REACHABLE, Reason.LOADABLE) for decision in plan.decisions):
        return _without_unasked(adjustments, plan, layer)
    if settings.cold is Cold.KEEP and (sources := layer.bytecode_only - adjustments.omitted_cold):
        return replace(adjustments, omitted_cold=adjustments.omitted_cold | sources)
    if settings.cold is Cold.AUTO and layer.evictable:
        return _without_unlikely(adjustments, layer)
    raise settings.budget.refusal(layer.sizes, reserved)


def _without_unasked(adjustments: Adjustments, plan: KeepPlan, layer: Oversized) -> Adjustments:
    """Leave out what no event asked for.

    The largest of the distributions that code merely names go first, until enough is saved. If that is too little,
    what only C could open becomes cold.
    """
    merely = {d.distribution for d in plan.decisions if d.reason is Reason.REACHABLE}
    sizes = Counter[str]()
    for decision in plan.decisions:
        if decision.distribution in merely:
            sizes[decision.distribution] += layer.shipped.get(decision.path, 0)
    excess, omitted = layer.excess, set(adjustments.omitted_distributions)
    for name, size in sizes.most_common():
        if excess > 0:
            omitted.add(name)
            excess -= size
    keep_c_opened = adjustments.keep_c_opened and excess <= 0
    return replace(adjustments, omitted_distributions=frozenset(omitted), keep_c_opened=keep_c_opened)


def _without_unlikely(adjustments: Adjustments, layer: Oversized) -> Adjustments:
    """Leave out cold files and chunks of cold pages, the least likely to be needed first."""
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
    """Return some that have ``excess`` bytes together, the least likely first; all of them where that is less."""
    for each in sorted(evictable, key=_order):
        if excess > 0:
            excess -= each.size
            yield each


def _order(each: Evictable) -> tuple[float, int, str, int]:
    return each.likelihood, -each.size, each.path, each.chunk if isinstance(each, EvictableChunk) else -1


def evictable_files(plan: KeepPlan, shares: Mapping[str, int]) -> Iterator[EvictableFile]:
    """Return the cold files, with a guess how likely it is that another input needs them.

    What lies beside much that is used is likely to be needed. ``shares`` is what each costs in the cold store.
    """
    beside = Counter(d.path.rpartition("/")[0] for d in plan.kept)
    everything = Counter(d.path.rpartition("/")[0] for d in plan.decisions)
    for decision in plan.cold:
        if decision.path in shares:
            folder = decision.path.rpartition("/")[0]
            likely = max(_ALONE, _STOOD_IN * beside[folder] / everything[folder])
            likely = _STOOD_IN if decision.reason in (Reason.STAND_IN, Reason.ASLEEP) else likely
            yield EvictableFile(likely, shares[decision.path], decision.path)


@dataclass(frozen=True, slots=True)
class ReservedBytes:
    """The bytes that share Lambda's limit with a layer: the function's, its models', those of the layers below."""

    code: int = 0
    models: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.code + self.models + self.layers

    def __str__(self) -> str:
        """Say what there is."""
        parts = (("the function", self.code), ("its models", self.models), ("other layers", self.layers))
        return ", ".join(f"{name} {size:,}" for name, size in parts if size)


NOTHING_RESERVED = ReservedBytes()


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a layer may be unzipped together with what is beside it, and whether the user has set that himself."""

    limit: int = LAMBDA_UNZIPPED_BYTES
    chosen: bool = False

    @property
    def whose(self) -> str:
        """Whose limit it is."""
        return "--max-size" if self.chosen else "AWS Lambda's limit for a function and its layers together"

    def check(self, plan: KeepPlan, beside: ReservedBytes = NOTHING_RESERVED) -> None:
        """Refuse a plan whose files are too large together.

        Raises:
            PackError: it is; the text names the largest distributions and what to do.
        """
        sizes: Counter[str] = Counter()
        for decision in plan.kept:
            sizes[decision.distribution or NO_DISTRIBUTION] += decision.size
        self.check_sizes(sizes, beside)

    def check_sizes(self, sizes: Counter[str], beside: ReservedBytes = NOTHING_RESERVED) -> None:
        """Refuse a layer of these bytes by distribution, as `check` does.

        Raises:
            PackError: it is too large.
        """
        if sizes.total() + beside.total > self.limit:
            raise self.refusal(sizes, beside)

    def refusal(self, sizes: Counter[str], beside: ReservedBytes = NOTHING_RESERVED) -> PackError:
        """Return what is said of a layer that is too large: its largest distributions, and what to do."""
        layer = sizes.total()
        excess = layer + beside.total - self.limit
        largest = "\n".join(f"  {size / 1e6:9.1f} MB  {name}" for name, size in sizes.most_common(10))
        together = f", and {layer + beside.total:,} with what is beside it ({beside})" if beside.total else ""
        model = f"{what_fits(self, layer, beside)}; or " if excess <= beside.models else ""
        top = next(iter(sizes.most_common(1)), (NO_DISTRIBUTION, 0))[0]
        return PackError(
            f"the layer would be {layer:,} bytes unzipped{together}; {self.whose} is {self.limit:,}.\n"
            f"The largest distributions in it:\n{largest}\n"
            f"What to do: {model}put a large one into a layer of its own and name it with --provided {top}; "
            f"leave files away that you know are not needed with --exclude; ask why one is kept with --explain {top}; "
            "or, for a container image or another place without this limit, raise it with --max-size 1GB"
        )


def what_fits(budget: Budget, layer: int, beside: ReservedBytes) -> str:
    """Say what to do about a layer of ``layer`` bytes that fits, but not together with what is beside it."""
    excess = layer + beside.total - budget.limit
    if excess > beside.models:
        return f"make the layer smaller: --max-size {budget.limit - beside.total} --cold auto leaves room"
    tmp = "" if beside.models < LAMBDA_TMP_BYTES else f" (set ephemeral storage to more than {beside.models:,} bytes)"
    return (
        f"keep the models ({beside.models:,} bytes) out of the function's zip: with them it is {excess:,} bytes over "
        f"the limit, without them {beside.models - excess:,} under it. The handler can take them from S3 into /tmp{tmp}"
        " when it starts, or from an EFS file system"
    )


def upload_warnings(archive: LayerArchive, whose: str = "") -> tuple[str, ...]:
    """Say what stands in the way of a direct upload."""
    if archive.zipped_bytes <= LAMBDA_DIRECT_UPLOAD_BYTES:
        return ()
    size = f"{archive.zipped_bytes:,} bytes zipped are over the {LAMBDA_DIRECT_UPLOAD_BYTES:,} of a direct upload"
    return (f"{whose}{size}: it has to go through S3",)
