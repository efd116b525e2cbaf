"""Runs a command in another file system: with hidden folders, like that of a Lambda function, or of an image.

usage: python -I FOLDER {hidden | lambda_root | image_root} JSON COMMAND...

Run as a folder, whose files then find each other and no others. What JSON may hold stands in these
modules. Exit code 125 means that such a file system cannot be made here; otherwise the command's own.
"""

import json
import sys


def main() -> None:
    """Replace this process by the command in the requested file system."""
    kind, wanted, command = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    if kind == "hidden":
        import hidden  # noqa: PLC0415 - only the needed module

        hidden.run(wanted, command)
    elif kind == "image_root":
        import image_root  # noqa: PLC0415

        image_root.run(wanted, command)
    else:
        import lambda_root  # noqa: PLC0415

        lambda_root.run(wanted, command)


main()
