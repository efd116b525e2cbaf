"""Sees which modules change names in modules of others, or attributes of their classes and instances.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import dis
import types

_MODULE_OF_CLASS = type.__dict__["__module__"].__get__
_NAMESPACE_OF_CLASS = type.__dict__["__dict__"].__get__


class Places(object):
    """What names, class attributes and instance attributes in ``modules`` hold between two moments.

    Where a ``placeholder`` (a class) is, its module is expected to put the real thing.
    """

    def __init__(self, modules, placeholder):
        self._modules = modules
        self._before = {key: _ids(namespace, placeholder) for key, _label, namespace in _namespaces(modules)}

    def taken(self, late):
        """Return {module: a place} of those modules of ``late``, {name: module}, that have changed one since then.

        That are modules which define what lies there now, and modules whose own code, not that of their functions,
        assigns to an attribute of this name.
        """
        found, assigning = {}, _assigning(late)
        for key, label, namespace in _namespaces(self._modules):
            # Names that a module lacked are seen elsewhere; what did not exist then is no place of others.
            before = self._before.get(key)
            for name, value in namespace if before is not None else ():
                new = before[name] not in (None, id(value)) if name in before else label not in self._modules
                for changer in [_owner(value)] + assigning.get(name, []) if new else ():
                    if type(changer) is str and changer in late:
                        found.setdefault(changer, "%s.%s" % (label, name))
        return found


def _assigning(modules):
    """Return {attribute: the modules that assign to it while they are executed}."""
    found = {}
    for name, module in modules.items():
        try:
            code = module.__spec__.loader.get_code(name)
            stored = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
        except Exception:
            continue  # an extension module, or a loader of the program's own
        for attribute in stored:
            if not attribute.startswith("__"):  # __doc__, for instance, is set for many reasons
                found.setdefault(attribute, []).append(name)
    return found


def _ids(namespace, placeholder):
    return {name: None if issubclass(type(value), placeholder) else id(value) for name, value in namespace}


def _namespaces(modules):
    """Yield (key, label, items) of the namespaces of modules, and of the classes and instances under their names."""
    for module_name, module in modules.items():
        items = _items(module.__dict__)
        yield (module_name, id(module)), module_name, items
        for name, value in items:
            namespace = _namespace_of(value, module_name)
            if namespace is not None:
                yield (module_name, name, id(value)), "%s.%s" % (module_name, name), _items(namespace)


def _items(namespace):
    return [(name, value) for name, value in list(namespace.items()) if type(name) is str]


def _namespace_of(value, module_name):
    """Return the namespace of a class that the module defines, or of an instance; none of their code runs."""
    kind = type(value)
    if issubclass(kind, type):
        return _NAMESPACE_OF_CLASS(value) if _module_of(value) == module_name else None
    if issubclass(kind, (types.ModuleType, types.FunctionType)):
        return None
    try:
        found = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return None
    return found if type(found) is dict else None


def _owner(value):
    """Return the module that defines a function, a class, or the class of an instance."""
    kind = type(value)
    if kind is property:
        return _owner(value.fget)
    if kind in (staticmethod, classmethod):
        return _owner(value.__func__)
    if kind is types.FunctionType:
        return value.__module__
    return _module_of(value if issubclass(kind, type) else kind)


def _module_of(cls):
    try:
        return _MODULE_OF_CLASS(cls)
    except AttributeError:
        return None  # a class of C code may have none
