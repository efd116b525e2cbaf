"""Reads orders from a workbook, converts their times to another zone, and sums them by day."""

import io

import pandas as pd


def _workbook(rows):
    file = io.BytesIO()
    frame = pd.DataFrame(rows, columns=["at", "what", "price"])
    with pd.ExcelWriter(file, engine="openpyxl") as writer:
        frame.to_excel(writer, sheet_name="orders", index=False)
    return file.getvalue()


def handler(event, context):
    data = io.BytesIO(_workbook(event["rows"]))
    frame = pd.read_excel(data, sheet_name="orders")
    at = pd.to_datetime(frame["at"], utc=True).dt.tz_convert(event["zone"])
    frame["day"] = at.dt.strftime("%Y-%m-%d %Z")
    if event.get("how") == "describe":
        return frame["price"].describe().round(6).to_dict()
    if event.get("how") == "pivot":
        return frame.pivot_table(index="day", columns="what", values="price", aggfunc="sum", fill_value=0).to_json()
    if event.get("how") == "resample":
        return frame.set_index(at)["price"].resample("6h").sum().to_json()
    return frame.groupby("day")["price"].sum().to_dict()
