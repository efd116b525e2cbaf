"""Turns CSV text into Parquet and answers questions about it."""

import io

import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq


def handler(event, context):
    table = csv.read_csv(io.BytesIO(event["csv"].encode()))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=event.get("compression", "snappy"))
    back = pq.read_table(io.BytesIO(sink.getvalue()), columns=event.get("columns"))
    if event.get("ask") == "group":
        return back.group_by("k").aggregate([("v", "sum")]).sort_by("k").to_pydict()
    if event.get("ask") == "json":
        import pyarrow.json as pj

        return pj.read_json(io.BytesIO(event["lines"].encode())).to_pydict()
    if event.get("ask") == "feather":
        import pyarrow.feather as feather

        file = io.BytesIO()
        feather.write_feather(back, file, compression="lz4")
        return feather.read_table(io.BytesIO(file.getvalue())).to_pydict()
    return {"rows": back.num_rows, "sum": pc.sum(back["v"]).as_py(), "schema": str(back.schema)}
