"""Differentiates, integrates and solves formulas."""

import sympy


def handler(event, context):
    formula, name = sympy.sympify(event["formula"]), sympy.Symbol(event["by"])
    found = {"derivative": sympy.diff(formula, name), "integral": sympy.integrate(formula, name)}
    if event.get("solve"):
        found["roots"] = sorted(map(str, sympy.solve(formula, name)))
    if event.get("latex"):
        found["latex"] = sympy.latex(formula)
    return {key: value if isinstance(value, list) else str(value) for key, value in found.items()}
