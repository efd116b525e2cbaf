"""Balances accounts with a package that looks up its own version while it is imported."""

import ledger
from ledger.balance import balance


def handler(event, context):
    if event.get("ask") == "about":
        return ledger.about(event["name"])
    if event.get("ask") == "report":
        from ledger.report import report

        return report(event["entries"])
    return {"version": ledger.__version__, "balance": balance(event["entries"])}
