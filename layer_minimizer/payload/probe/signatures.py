"""Describes functions and classes as far as decorators read them: signatures, names.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import types

_SIMPLE = (str, int, float, bool, type(None))


def of_function(function):
    """Return a plain function's signature, None where a default or an annotation is more than text or a number."""
    if type(function) is not types.FunctionType:
        return None
    import inspect  # here: the program may do without it

    empty = inspect.Parameter.empty
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
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
