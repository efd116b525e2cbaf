"""Replaces placeholders in the local variables of code that has begun and not ended."""

import os
import sys

_OPTIMIZED = 1  # the flag of code whose local variables lie in no dictionary
_WRITES_THROUGH = sys.version_info >= (3, 13)  # frame.f_locals does
_HERE = os.path.dirname(sys._getframe().f_code.co_filename)


def replace_in_stack(current):
    """Replace what running code has in local variables; ``current(x)`` returns what is in the place of ``x``."""
    frames = [sys._getframe(1)]
    if _WRITES_THROUGH:  # elsewhere, what another thread sets at the same time would be lost
        frames += [frame for frame in sys._current_frames().values() if frame is not frames[0]]
    for top in frames:
        frame = top
        while frame is not None:
            if os.path.dirname(frame.f_code.co_filename) != _HERE:
                replace_in_frame(frame, current)
            frame = frame.f_back


def replace_in_frame(frame, current):
    """Replace what a function or a suspended generator has in local variables."""
    if frame is None or not frame.f_code.co_flags & _OPTIMIZED:
        return
    found = [(name, value) for name, value in list(frame.f_locals.items()) if current(value) is not value]
    if not found:
        return
    store = _find_store(frame)
    for name, value in found:
        real = current(value)
        # No call up to the last one: code of other threads runs between calls, and may set what is shared with it.
        names = frame.f_locals
        if names[name] is value:
            names[name] = real
            store()


def _find_store(frame):
    """Return the function that makes running code take its variables from the dictionary that describes them."""
    if _WRITES_THROUGH:
        return int
    try:
        import ctypes
    except ImportError:
        return int
    import functools

    return functools.partial(ctypes.pythonapi.PyFrame_LocalsToFast, ctypes.py_object(frame), ctypes.c_int(0))
