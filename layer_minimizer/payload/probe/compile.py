"""Compiles source files to bytecode that is valid wherever it lies: never compared with a source's time or contents.

argv[1] is a JSON file with rows of [source, target, name in tracebacks, whether docstrings stay].
Prints, as JSON, the sources that do not compile. Runs in the interpreter that the bytecode is for: CPython 3.6 and
later, the standard library alone.
"""

import ast
import importlib.util
import json
import marshal
import sys
import warnings


def without_docstrings(tree):
    """Take the docstrings out of a syntax tree; asserts stay."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            # Nothing takes its place: only a docstring may stand before an import from __future__. A second text would
            # become the docstring.
            while node.body and _is_text(node.body[0]):
                del node.body[0]
            if first is not None and not node.body:
                node.body = [ast.copy_location(ast.Pass(), first)]
    return tree


def _is_text(statement):
    text = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    return isinstance(getattr(text, "value", getattr(text, "s", None)), str)


def main():
    warnings.simplefilter("ignore")
    with open(sys.argv[1], "rb") as rows:
        listed = json.loads(rows.read().decode("utf-8"))
    refused = []
    for source, target, name, docstrings in listed:
        with open(source, "rb") as text:
            try:
                tree = compile(text.read(), name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
                if not docstrings:
                    tree = without_docstrings(tree)
                code = compile(tree, name, "exec", dont_inherit=True, optimize=0)
            except (SyntaxError, ValueError, RecursionError):
                refused.append(source)
                continue
        # PEP 552: flags 1 is "by hash, unchecked". Before 3.7 there is no such field, and a time that is not compared.
        head = b"\1\0\0\0" + b"\0" * 8 if sys.version_info >= (3, 7) else b"\0" * 8
        with open(target, "wb") as out:
            out.write(importlib.util.MAGIC_NUMBER + head + marshal.dumps(code))
    json.dump(refused, sys.stdout)


if __name__ == "__main__":
    del sys.path[0]
    main()
