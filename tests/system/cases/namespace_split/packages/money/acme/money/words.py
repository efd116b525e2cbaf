"""Prices in words."""

import importlib.resources


def in_words(language, amount):
    text = importlib.resources.files("acme.money").joinpath("texts", f"{language}.txt").read_text("utf-8")
    return text.strip().format(amount)
