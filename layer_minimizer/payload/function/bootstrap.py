"""Is the function's runtime where there is no image of Lambda's: lays out sys.path as Lambda does, then serves events.

The order of folders, and that ``.pth`` files of all three run, are those of the bootstrap in Lambda's images. Runs on
CPython 3.6 and later; awslambdaric lies in this file's folder.
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
    # Child processes find the runtime, and not the layer: so it is in Lambda.
    os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
    from awslambdaric import __main__ as client

    client.main([task, os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
