"""Formulas that are translated from their own source, as compilers of Python functions do."""

import ast
import inspect
import textwrap


def translate(function):
    """Give a function's body in prefix notation."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    returned = next(node for node in ast.walk(tree) if isinstance(node, ast.Return))
    return _prefix(returned.value)


def _prefix(node):
    if isinstance(node, ast.BinOp):
        return [type(node.op).__name__, _prefix(node.left), _prefix(node.right)]
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return node.value
    raise TypeError(f"cannot translate {type(node).__name__}")
