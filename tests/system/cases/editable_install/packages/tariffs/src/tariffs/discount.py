"""Discounts."""


def reduced(price, per_cent):
    return price * (100 - per_cent) / 100
