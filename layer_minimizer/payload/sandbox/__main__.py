"""Runs a command in another file system: this one with hidden folders, or one like that of a Lambda function.

usage: python -I FOLDER {hidden | lambda_root} JSON COMMAND...

Run as a folder, whose files then find each other and no others. What JSON may hold stands in hidden.py and
lambda_root.py. Exit code 125 means that such a file system cannot be made here; otherwise the command's own.
"""

import json
import sys


def main() -> None:
    """Replace this process by the command in the requested file system."""
    kind, wanted, command = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    if kind == "hidden":
        import hidden  # noqa: PLC0415 - only the needed module

        hidden.run(wanted, command)
    else:
        import lambda_root  # noqa: PLC0415

        lambda_root.run(wanted, command)


main()
