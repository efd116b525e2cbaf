"""Keeps measurements in HDF5 files, compressed, with attributes."""

import io

import h5py
import numpy as np


def handler(event, context):
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        group = out.create_group("run")
        group.attrs["who"] = event["who"]
        kwargs = {"compression": event["compression"]} if "compression" in event else {}
        if event.get("compression") == "gzip":
            kwargs["shuffle"] = True
        group.create_dataset(
            "values", data=np.asarray(event["values"], dtype=event.get("dtype", "f8")), chunks=True, **kwargs
        )
        if event.get("text"):
            group.create_dataset("text", data=event["text"], dtype=h5py.string_dtype())
    with h5py.File(io.BytesIO(file.getvalue()), "r") as back:
        data = back["run/values"]
        found = {"who": back["run"].attrs["who"], "mean": float(data[:].mean()), "dtype": str(data.dtype)}
        if event.get("text"):
            found["text"] = back["run/text"].asstr()[()].tolist()
        if event.get("visit"):
            names = []
            back.visit(names.append)
            found["names"] = names
        return found
