"""Balances as text."""

from ledger import __version__, balance


def report(entries):
    rows = [f"{name:10}{value:>10}" for name, value in balance.balance(entries).items()]
    return "\n".join([f"ledger {__version__}", *rows])
