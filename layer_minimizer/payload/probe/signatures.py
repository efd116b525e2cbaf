"""Describes functions and classes as far as decorators read them: signatures, names.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import types

_SIMPLE = frozenset((str, int, float, bool, type(None)))
# Kinds of parameters and flags of code, as in the module inspect, which the program may do without.
_POSITIONAL_ONLY, _POSITIONAL, _VAR_POSITIONAL, _KEYWORD, _VAR_KEYWORD = range(5)
_CO_VARARGS, _CO_VARKEYWORDS = 4, 8


def of_function(function):
    """Return a plain function's signature, None where a default or an annotation is more than text or a number."""
    if type(function) is not types.FunctionType:
        return None
    code, defaults = function.__code__, function.__defaults__ or ()
    if function.__dict__ or len(defaults) > code.co_argcount or "." in "".join(code.co_varnames):
        return _inspected(function)  # attributes may name a wrapped function, or another signature
    try:
        return _read(function, code, defaults)
    except Exception:
        return None  # from CPython 3.14 on, annotations are code, which may raise


def _read(function, code, defaults):
    """Do what `_inspected` does, in a third of the time: packages have tens of thousands of functions."""
    positional, only = code.co_argcount, getattr(code, "co_posonlyargcount", 0)
    kinds = [_POSITIONAL_ONLY] * only + [_POSITIONAL] * (positional - only)
    rest = code.co_kwonlyargcount or code.co_flags & (_CO_VARARGS | _CO_VARKEYWORDS)
    if rest:
        kinds += [_KEYWORD] * code.co_kwonlyargcount
        kinds += [_VAR_POSITIONAL] if code.co_flags & _CO_VARARGS else []
        kinds += [_VAR_KEYWORD] if code.co_flags & _CO_VARKEYWORDS else []
    names = code.co_varnames[: len(kinds)]
    given = dict(zip(names[positional - len(defaults) : positional], defaults))  # noqa: B905 - Python 3.6 has no strict
    given.update(function.__kwdefaults__ or ())
    if not _SIMPLE.issuperset(map(type, given.values())):
        # One of these may be what inspect has in the place of no default.
        return _inspected(function) if any(isinstance(value, type) for value in given.values()) else None
    annotations = function.__annotations__
    for name, annotation in annotations.items():
        if type(annotation) is not str and (name == "return" or name in names):
            return None
    parameters = [
        [name, kind, [given[name]] if name in given else [], [annotations[name]] if name in annotations else []]
        for name, kind in zip(names, kinds)  # noqa: B905 - Python 3.6 has no strict
    ]
    if rest:
        parameters.sort(key=lambda each: each[1])  # code has the names of what takes the rest at its end
    return {
        "parameters": parameters,
        "result": [annotations["return"]] if "return" in annotations else [],
        "own": [],
    }


def _inspected(function):
    """Return what `of_function` does for any function."""
    import inspect  # here: the program may do without it

    empty = inspect.Parameter.empty
    try:
        signature = inspect.signature(function)
    except Exception:
        return None  # it has none, or its annotations raise
    parameters = []
    for each in signature.parameters.values():
        if each.default is not empty and type(each.default) not in _SIMPLE:
            return None
        if each.annotation is not empty and type(each.annotation) is not str:
            return None
        default = [] if each.default is empty else [each.default]
        parameters.append([each.name, int(each.kind), default, [] if each.annotation is empty else [each.annotation]])
    result = signature.return_annotation
    if result is not empty and type(result) is not str:
        return None
    own = sorted(name for name in function.__dict__ if isinstance(name, str))
    return {"parameters": parameters, "result": [] if result is empty else [result], "own": own}


def of_classes(module):
    """Describe the plain classes that a module defines: {class: {"names": [...], "methods": {name: signature}}}."""
    found = {}
    for value in list(module.__dict__.values()):
        if type(value) is type and type.__getattribute__(value, "__module__") == module.__name__:
            members = [(name, each) for name, each in list(value.__dict__.items()) if type(each) is types.FunctionType]
            found[value.__qualname__] = {
                "names": sorted({name for base in value.__mro__ for name in base.__dict__}),
                "methods": {name: of_function(method) for name, method in members},
            }
    return found
