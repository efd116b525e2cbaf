"""Describes this interpreter and where its packages lie, as JSON in the file argv[1].

Valid for Python 2.7 too, so that an interpreter that is too old is refused by its version and not by a traceback.
"""

import json
import os
import site
import sys
import sysconfig


def _base_executable():
    base = getattr(sys, "_base_executable", None)
    if base and os.path.realpath(os.path.dirname(base)) != os.path.realpath(os.path.join(sys.prefix, "bin")):
        return base
    config = os.path.join(sys.prefix, "pyvenv.cfg")
    if os.path.isfile(config):
        with open(config) as lines:
            settings = dict(line.split("=", 1) for line in lines if "=" in line)
        home = {key.strip(): value.strip() for key, value in settings.items()}.get("home", "")
        for name in ("python%d.%d" % sys.version_info[:2], "python3", "python"):
            if home and os.path.isfile(os.path.join(home, name)):
                return os.path.join(home, name)
    return os.path.realpath(sys.executable)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    paths = sysconfig.get_paths()
    packages = list(getattr(site, "getsitepackages", list)()) + [paths["purelib"], paths["platlib"]]
    packages.append(site.getusersitepackages())
    description = {
        "implementation": sys.implementation.name if hasattr(sys, "implementation") else "",
        "version": list(sys.version_info[:3]),
        "executable": sys.executable,
        "base_executable": _base_executable(),
        "virtual": sys.prefix != getattr(sys, "base_prefix", sys.prefix),
        "path": [entry for entry in sys.path if os.path.abspath(entry or ".") != here],
        "packages": packages,
        "stdlib": [paths["stdlib"], paths["platstdlib"]],
        "user_base": site.getuserbase() if site.ENABLE_USER_SITE else "",
        "soabi": sysconfig.get_config_var("SOABI") or "",
        "machine": os.uname()[4],
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "platform": sys.platform,
    }
    with open(sys.argv[1], "w") as out:
        json.dump(description, out)


main()
