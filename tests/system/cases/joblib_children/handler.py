"""Spreads work over processes with joblib's loky, where the place allows it."""

import joblib
import numpy as np


def work(n):
    return float(np.sqrt(n) + n)


def handler(event, context):
    backend = event.get("backend", "loky")
    if event.get("ask") == "memory":
        import tempfile

        memory = joblib.Memory(tempfile.mkdtemp(), verbose=0)
        cached = memory.cache(work)
        return [cached(3), cached(3)]
    if event.get("ask") == "dump":
        import io

        file = io.BytesIO()
        joblib.dump({"a": np.arange(5)}, file, compress=("zlib", 3))
        file.seek(0)
        return joblib.load(file)["a"].tolist()
    done = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(work)(n) for n in range(event["n"]))
    return [round(x, 6) for x in done]
