"""The bootstrap of emulated Lambda without Lambda's image: sets sys.path as Lambda does, then serves events.

The order of folders, and that ``.pth`` files of all three run, are those of the bootstrap in Lambda's images. Runs on
CPython 3.6 and later; awslambdaric is in the folder of this file.
"""

import os
import site
import sys


def main():
    task = os.environ["LAMBDA_TASK_ROOT"]
    folders = [task, "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"]
    sys.path[:0] = folders
    for folder in folders:
        site.addsitedir(folder)
    # As in Lambda, child processes find the runtime and not the layer.
    os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
    from awslambdaric import __main__ as client

    client.main([task, os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
