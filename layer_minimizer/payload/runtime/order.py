"""Lists the files of folders in a given order: that of the environment, where the results of a program depend on it.

The system lists files in no particular order, and each copy of a folder can have its own. Only layers of programs that
were seen to depend on it have the file with the orders: blocks of a folder and its names, see ``parse``.
"""

import os

FILE = "order"


class _Entries(object):
    """What os.scandir returns: an iterator and a context manager."""

    def __init__(self, entries):
        self._left = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._left)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def close(self):
        """End the iteration."""
        self._left = iter(())


class _Ordered(object):
    """A function that lists a folder, with its result in order.

    No plain function: those turn into methods as class attributes, which built-in functions do not.
    """

    def __init__(self, function, arrange):
        self.function = function
        self.arrange = arrange
        self.__wrapped__ = function
        self.__name__ = self.__qualname__ = function.__name__
        self.__module__ = "os"
        self.__doc__ = function.__doc__

    def __call__(self, *args, **kwargs):
        return self.arrange(self.function(*args, **kwargs), *args, **kwargs)

    def __reduce__(self):
        return self.__name__

    def __repr__(self):
        return repr(self.function)


def parse(file):
    """Return the blocks of a file, each a list of texts: a folder and its names in order."""
    with open(file, "rb") as source:
        text = source.read().decode("utf-8", "surrogateescape")
    return [block.split("\0") for block in text.split("\0\0")]


def by_rank(names):
    """Return the key that sorts as ``names`` are, and others behind them; a module may be bytecode here."""
    ranks = {name: number for number, name in enumerate(names)}

    def key(name):
        rank = ranks.get(name)
        if rank is None and name.endswith(".pyc"):
            rank = ranks.get(name[:-1])
        return (len(ranks) if rank is None else rank, name)

    return key


def arrange(listed, key):
    """Return names or entries of a folder, sorted by the key of their names."""
    return sorted(listed, key=lambda each: key(os.fsdecode(getattr(each, "name", each))))


def install(arrange_folder):
    """Make os list folders in order; ``arrange_folder(real path)`` returns what arranges a list, or None."""

    def arranging(path):
        path = "." if path is None else path
        path = "/proc/self/fd/%d" % path if isinstance(path, int) else os.fsdecode(path)
        return arrange_folder(os.path.realpath(path))

    def names(listed, path=None):
        arranged = arranging(path)
        return listed if arranged is None else arranged(listed)

    def entries(listed, path=None):
        arranged = arranging(path)
        if arranged is None:
            return listed
        with listed:
            return _Entries(arranged(list(listed)))

    for name, arranged in (("listdir", names), ("scandir", entries)):
        function = getattr(os, name)
        ordered = _Ordered(function, arranged)
        for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if function in supported:
                supported.add(ordered)
        setattr(os, name, ordered)


def install_given(folders):
    """Make os list these folders as given: a mapping of real paths to names."""
    keys = {folder: by_rank(names) for folder, names in folders.items()}

    def arrange_folder(folder):
        key = keys.get(folder)
        return None if key is None else lambda listed: arrange(listed, key)

    install(arrange_folder)


def serve(roots):
    """Install the orders that the layers in the site folders ``roots`` have, if any."""
    found = {}
    for root in roots:
        file = os.path.join(root, "_layer_minimizer", FILE)
        if os.path.exists(file):
            for folder, *names in parse(file):
                found[os.path.realpath(os.path.join(root, folder))] = names
    if found:
        install_given(found)
