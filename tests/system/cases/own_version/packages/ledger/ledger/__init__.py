"""Double-entry bookkeeping; knows its version from what is installed, and refuses an environment that is too old."""

from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

__version__ = version("ledger-book")


def _check():
    for line in requires("ledger-book") or ():
        requirement = Requirement(line)
        if version(requirement.name) not in requirement.specifier:
            raise ImportError(f"ledger-book needs {line}")


_check()


def about(name):
    """Give a distribution's name and version, as a bug report wants them."""
    try:
        said = metadata(name)
    except PackageNotFoundError:
        return None
    return [said["Name"], said["Version"]]
