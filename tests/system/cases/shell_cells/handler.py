"""Runs cells in IPython, which requires a package whose classifiers call it a tool for tests."""

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()


def handler(event, context):
    with capture_output() as said:
        result = shell.run_cell(event["cell"])
    return [said.stdout, result.success]
