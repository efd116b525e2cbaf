"""Does what ``layer_minimizer.pth`` does, where Python runs ``layer_minimizer.start`` instead of it (PEP 829).

From CPython 3.15 on a ``.start`` file names a function, and the lines with ``import`` in the ``.pth`` file of that name
are not run; from 3.18 on they are run nowhere. The check of the layer stands in such a line.
"""

import sys

_done = set()


def begin():
    """Run the line of each layer in the folders on ``sys.path``, once."""
    for sitedir in list(sys.path):  # the line reads this name, as in the site module
        if sitedir in _done:
            continue
        _done.add(sitedir)
        try:
            open(sitedir + "/layer_minimizer.start").close()
            with open(sitedir + "/layer_minimizer.pth", encoding="utf-8") as lines:
                text = lines.read()
        except OSError:
            continue
        exec(text, {})  # noqa: S102 - as the site module does
