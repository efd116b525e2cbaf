"""Steps that change the case of letters."""


def upper(text):
    return text.upper()
