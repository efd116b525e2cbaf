"""Sums of accounts."""

from decimal import Decimal


def balance(entries):
    found = {}
    for debit, credit, amount in entries:
        found[debit] = found.get(debit, Decimal(0)) + Decimal(amount)
        found[credit] = found.get(credit, Decimal(0)) - Decimal(amount)
    return {name: str(value) for name, value in sorted(found.items())}
