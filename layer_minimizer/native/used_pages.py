"""Splits a library of which only what a run used is shipped: what is left out cannot be restored. Does no I/O.

Exceptions pass through the functions that stay: unwinding information is shipped for these, whether or not the run has
raised one.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.native import compact, unwinding
from layer_minimizer.native.elf_image import PAGE_BYTES, ElfImage, Right, UnsupportedLibraryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

log = logging.getLogger(__name__)
# The sections that the shortened tables replace.
_REPLACED = (".eh_frame_hdr", ".eh_frame")


def split_used(data: bytes | memoryview, hot: Collection[int], page_size: int = PAGE_BYTES) -> compact.Split:
    """Split the pages of a library. ``hot`` and ``page_size`` as for `compact.split`.

    Raises:
        UnsupportedLibraryError: the library cannot be rewritten.
    """
    parts = compact.split(data, hot, constants=True, page_size=page_size)
    try:
        tables = unwinding.of_functions(parts.image, list(_code(parts)))
    except UnsupportedLibraryError as exc:
        log.debug("exceptions end in a message: %s", exc)
        return parts
    if tables is None:
        return parts
    read = {page for first, last in tables.handlers for page in range(first // page_size, last // page_size + 1)}
    pages = set(hot) - set(_replaced_pages(parts.image)) | read
    return replace(compact.split(data, pages, constants=True, page_size=page_size), unwinding=tables)


def _code(parts: compact.Split) -> Iterator[tuple[int, int]]:
    """Yield the first and the last address of each range of code that stays."""
    for segment in parts.image.loads:
        if segment.flags & Right.EXECUTE:
            for start, stop, stays in compact.stretches(segment, parts.cold, parts.image.page_size):
                if stays:
                    yield start, stop - 1


def _replaced_pages(image: ElfImage) -> Iterator[int]:
    for section in image.sections:
        if section.name in _REPLACED:
            for run in compact.whole_pages(image, section.address, section.size):
                yield from range(run.page, run.stop)
