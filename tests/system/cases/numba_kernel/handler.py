"""A compiled kernel; the folder that the handler lies in cannot be written, as in Lambda."""

import os
import tempfile

os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), "numba"))
import numba
import numpy as np


@numba.njit(cache=True)
def escape(x, y, limit):
    a = b = 0.0
    for n in range(limit):
        a, b = a * a - b * b + x, 2 * a * b + y
        if a * a + b * b > 4.0:
            return n
    return limit


@numba.vectorize(["float64(float64, float64)"])
def mix(a, b):
    return a * 2 + b


def handler(event, context):
    if event.get("ask") == "vector":
        return mix(np.arange(3.0), np.ones(3)).tolist()
    if event.get("ask") == "parallel":

        @numba.njit(parallel=True)
        def total(values):
            s = 0.0
            for i in numba.prange(values.shape[0]):
                s += values[i]
            return s

        return total(np.arange(100.0))
    if event.get("ask") == "dict":

        @numba.njit
        def count(text):
            found = numba.typed.Dict.empty(numba.types.unicode_type, numba.types.int64)
            for c in text:
                found[c] = found.get(c, 0) + 1
            return found

        return {k: int(v) for k, v in count(event["text"]).items()}
    return [escape(x, y, 100) for x, y in event["points"]]
