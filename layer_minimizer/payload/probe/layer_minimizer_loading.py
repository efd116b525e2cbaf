"""Loads the files of the probe's folder, which is not on sys.path while the program runs.

Runs inside the traced interpreter: CPython 3.6 and later, and nothing imported that the interpreter has not loaded by
itself. The one file of the folder that is imported by its name.
"""

import os
import sys

# The parts of the code that lets one module stand in for another, each behind those that it imports.
STAND_IN_PARTS = (
    "messages",
    "standin_state",
    "standin_filling",
    "standin_frames",
    "standin_remaking",
    "standin_unions",
    "standin_replacing",
    "standin_environ",
    "standin_waking",
    "standin_finding",
    "standin_placeholders",
    "standin",
)
# The package that they are parts of in a traced program; in a layer it is the runtime's own.
_TRIAL = "_layer_minimizer_trial"


def load_probe_file(name):
    """Load a file of this folder as the module ``_layer_minimizer_NAME``; return it."""
    return _load(name, "_layer_minimizer_" + name, "")


def load_stand_in_parts(last="standin"):
    """Load the parts that stand in for modules, up to and with ``last``; return that."""
    if _TRIAL not in sys.modules:
        package = sys.modules[_TRIAL] = type(sys)(_TRIAL)
        package.__path__ = []  # nothing else is found in it
    for name in STAND_IN_PARTS[: STAND_IN_PARTS.index(last) + 1]:
        full = _TRIAL + "." + name
        if full not in sys.modules:
            _load(name, full, _TRIAL)
    return sys.modules[_TRIAL + "." + last]


def _load(name, full, package):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    module = type(sys)(full)
    module.__file__ = path
    module.__package__ = package
    sys.modules[full] = module
    lazy = load_eagerly()
    try:
        with open(path, "rb") as source:
            exec(compile(source.read(), path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[full]
        raise
    finally:
        load_as_before(lazy)
    return module


def load_eagerly():
    """Load modules where they are imported, whatever PYTHON_LAZY_IMPORTS says (PEP 810); return what it said.

    The import system calls what is in this folder, and could not import anything for it in turn.
    """
    lazy = sys.get_lazy_imports() if hasattr(sys, "get_lazy_imports") else ""
    if lazy:
        sys.set_lazy_imports("normal")
    return lazy


def load_as_before(lazy):
    """Restore what `load_eagerly` returned."""
    if lazy:
        sys.set_lazy_imports(lazy)
