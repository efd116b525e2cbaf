"""What ``minimize --help`` says: the common options, by task, on two screens; and the examples."""

from __future__ import annotations

DESCRIPTION = "Write the smallest AWS Lambda layer that still runs your code, and prove that\nit does."
USAGE = "minimize [COMMAND] [OPTIONS]"
COMMANDS = {
    "init": "write a settings file for the handler in this folder",
    "publish": "publish a layer's zip as a new version, and print its ARN",
    "trace": "run the entry and save what it used; no layer is made",
    "compare": "show what some traces have and others lack",
    "diff": "show what has changed between two reports",
    "probe": "write a layer that traces a deployed function",
    "completion": "print a shell's completion of this command",
    "help": "list the topics of the manual, or show one",
}
SHORT = """\
usage: minimize [COMMAND] [OPTIONS]

Write the smallest AWS Lambda layer that still runs your code, and prove that
it does.

examples:
  minimize init                         write a settings file; then: minimize
  minimize --entry handler.py --event event.json --output layer.zip
  minimize --python .venv/bin/python --entry handler.py --model export.pkl
  minimize --entry handler.py --event event.json --explain scipy
  minimize publish layer.zip --name fastai --runtime python3.12

what must keep working:
  --entry FILE              a Lambda handler, or a script
  --event FILE              JSON, one event or a list; repeatable
  --model FILE              lies beside the entry; repeatable
  --python PATH             whose packages are minimized; default: this one
what goes into the layer:
  --include, --exclude GLOB keep or drop files by hand; repeatable
  --base-layer ZIP|ARN      a layer below this one; repeatable
  --cold keep|auto|drop     what becomes of what no event touched
  --max-size SIZE           of it all, unzipped; default: Lambda's limit
  --strip-docstrings        leave docstrings out
where it is to work:
  --runtime python3.12      check the layer against Lambda's runtime
  --architecture arm64      default: this machine's
  --verify lambda           prove it in an emulated Lambda, too
  --runner docker           do all this in a container of that runtime, with
  --requirements FILE       what to install there
what comes out:
  --output FILE             the layer; default: layer.zip
  --function-zip FILE       the function beside the layer
  --report DIR              report.json and report.html
  --json                    the report as JSON on standard output
  --explain NAME            why a path, module or distribution is there
settings file (layer_minimizer.toml, or pyproject.toml):
  --config FILE             this one; --no-config: none
  --layer NAME              one of its layers; repeatable; default: all
commands:
  init, publish, trace, compare, diff, probe, completion, help

minimize --help-all shows every option, minimize COMMAND --help a command's;
minimize help lists the pages of the manual.
"""
EPILOG = """\
commands:
{commands}

examples:
  minimize init
  minimize --entry handler.py --model export.pkl --event event.json --output layer.zip
  minimize --python .venv/bin/python --entry predict.py --provided torch
  minimize --entry handler.py --event event.json --explain scipy
  minimize --runner docker --runtime python3.12 --requirements requirements.txt --entry handler.py
  minimize --layer api --report reports
  minimize trace --entry handler.py --event a.json --save-trace a.trace
  minimize publish layer.zip --name fastai --runtime python3.12
""".format(commands="\n".join(f"  {name:10}  {text}" for name, text in COMMANDS.items()))
