"""Whether a layer fits into the size limit, and what can be left out where it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.aws.limits import LAMBDA_DIRECT_UPLOAD_BYTES, LAMBDA_TMP_BYTES, LAMBDA_UNZIPPED_BYTES
from layer_minimizer.core.errors import PackError
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.plan import KeepPlan, Reason
from layer_minimizer.pack.libraries import Evictable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.outcome import LayerArchive

# How likely it is that another input needs what only stands in, and what lies beside nothing that is used.
_STOOD_IN, _ALONE = 0.5, 0.001


def cold_file_offers(plan: KeepPlan, shares: dict[str, int]) -> Iterator[Evictable]:
    """Give the cold files, with a guess how likely it is that another input needs them.

    What lies beside much that is used is likely to be needed.
    """
    beside = Counter(d.path.rpartition("/")[0] for d in plan.kept)
    everything = Counter(d.path.rpartition("/")[0] for d in plan.decisions)
    for decision in plan.cold:
        if decision.path in shares:
            folder = decision.path.rpartition("/")[0]
            likely = max(_ALONE, _STOOD_IN * beside[folder] / everything[folder])
            likely = _STOOD_IN if decision.reason in (Reason.STAND_IN, Reason.ASLEEP) else likely
            yield Evictable(likely, shares[decision.path], decision.path, -1)


def least_likely(offers: list[Evictable], excess: int) -> Iterator[Evictable]:
    """Give offers of ``excess`` bytes together, the least likely to be needed first; all of them where that is less."""
    for offer in sorted(offers, key=lambda offer: (offer.likelihood, -offer.size, offer.path, offer.chunk)):
        if excess > 0:
            excess -= offer.size
            yield offer


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
        layer = sizes.total()
        excess = layer + beside.total - self.limit
        if excess <= 0:
            return
        largest = "\n".join(f"  {size / 1e6:9.1f} MB  {name}" for name, size in sizes.most_common(10))
        together = f", and {layer + beside.total:,} with what is beside it ({beside})" if beside.total else ""
        model = f"{what_fits(self, layer, beside)}; or " if excess <= beside.models else ""
        top = next(iter(sizes.most_common(1)), (NO_DISTRIBUTION, 0))[0]
        raise PackError(
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
