"""Sums sales by month and region."""

import io

import pandas as pd


def handler(event, context):
    sales = pd.read_csv(io.StringIO(event["csv"]), parse_dates=["day"])
    sales["month"] = sales["day"].dt.strftime("%Y-%m")
    table = sales.pivot_table(index="month", columns="region", values="amount", aggfunc="sum", fill_value=0)
    best = sales.groupby("region")["amount"].agg(["mean", "max"]).round(3).sort_index()
    return {"table": table.to_dict("split"), "best": best.to_dict("index")}
