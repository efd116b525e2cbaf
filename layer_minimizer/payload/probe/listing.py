"""Changes the order in which the files of some folders are listed, to find out whether a program depends on it.

The file that is named has blocks as ../runtime/order.py has. The first is the order: "reversed" (by name, the other way
round) for the folders of the next blocks, where one that ends with "/" stands for all folders below it, too; or
"given": each of the next blocks is a folder and its names in order. Runs inside the traced interpreter: CPython 3.6 and
later, nothing imported that it has not loaded itself.
"""


def start(file, order):
    """List folders as ``file`` says from now on; ``order`` is the module of the runtime."""
    (kind,), *blocks = order.parse(file)
    if kind == "given":
        order.install_given({folder: names for folder, *names in blocks})
        return
    folders = frozenset(folder for folder, *_ in blocks)
    whole = tuple(folder for folder in folders if folder.endswith("/"))

    def arrange_folder(folder):
        is_named = folder in folders or (folder + "/").startswith(whole)
        return (lambda listed: order.arrange(listed, str)[::-1]) if is_named else None

    order.install(arrange_folder)
