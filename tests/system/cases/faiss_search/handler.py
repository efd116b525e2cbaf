"""Finds the nearest neighbours of a vector."""

import faiss
import numpy as np

_DATA = ((np.arange(64 * 8) * 37) % 101).astype("float32").reshape(64, 8)


def handler(event, context):
    kind = event.get("index", "flat")
    if kind == "flat":
        index = faiss.IndexFlatL2(8)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(8, 8)
    else:
        index = faiss.index_factory(8, event["factory"])
        index.train(_DATA)
    index.add(_DATA)
    distances, found = index.search(np.asarray([event["vector"]], dtype="float32"), 3)
    if event.get("saved"):
        index = faiss.deserialize_index(faiss.serialize_index(index))
        found = index.search(np.asarray([event["vector"]], dtype="float32"), 3)[1]
    return {"found": found[0].tolist(), "distances": np.round(distances[0], 2).tolist()}
