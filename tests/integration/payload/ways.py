"""Ways to use files beside a package that the standard library has, one function each; run by test_ways.py.

``ways.py SITE RESTORED`` runs each in a process of its own and prints the results. RESTORED is removed before each.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

SITE = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
HERE = SITE + "/kit"
DATA = HERE + "/data"
NOTE = DATA + "/note.txt"
WAYS = []


def way(function):
    WAYS.append(function)
    return function


def said(command, **options):
    return subprocess.check_output(command, universal_newlines=True, **options)


def python(*arguments, **options):
    return said((sys.executable, "-B") + arguments, **options).strip()


def scratch():
    return tempfile.TemporaryDirectory()


def text_of(path, **options):
    with open(path, **options) as source:
        return source.read()


# ---- files --------------------------------------------------------------------------------------------------------


@way
def fileio():
    import io

    with io.FileIO(NOTE) as source:
        return source.read().decode()


@way
def as_bytes():
    return text_of(os.fsencode(NOTE)) + str(os.path.getsize(os.fsencode(NOTE)))


@way
def up_and_down():
    return text_of(HERE + "/plugins/../kept.txt") + text_of(HERE + "/plugins/../data/note.txt")


@way
def relative():
    os.chdir(HERE)
    return text_of("data/note.txt")


@way
def changed_into():
    os.chdir(DATA)
    return text_of("note.txt"), sorted(os.listdir())


@way
def changed_into_by_descriptor():
    os.fchdir(os.open(DATA, os.O_RDONLY))
    return text_of("note.txt")


@way
def as_url():
    from pathlib import Path
    from urllib.request import urlopen

    with urlopen(Path(NOTE).as_uri()) as source:
        return source.read().decode()


@way
def mapped():
    import mmap

    with open(NOTE, "rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return bytes(view).decode()


@way
def by_descriptor():
    folder = os.open(HERE, os.O_RDONLY)
    return os.read(os.open("data/note.txt", os.O_RDONLY, dir_fd=folder), 9).decode()


@way
def folder_descriptor():
    return sorted(os.listdir(os.open(DATA, os.O_RDONLY)))


@way
def walked():
    from pathlib import Path

    return [sorted(path.name for path in Path(DATA).rglob("*")), sum(len(names) for _, _, names, _ in os.fwalk(DATA))]


@way
def copied():
    with scratch() as folder:
        shutil.copytree(DATA, folder + "/copy")
        return sorted(
            text_of(os.path.join(top, name), mode="rb").decode("latin-1")
            for top, _, names in os.walk(folder)
            for name in names
        )


@way
def archived():
    import zipfile

    with scratch() as folder:
        return sorted(zipfile.ZipFile(shutil.make_archive(folder + "/x", "zip", DATA)).namelist())


@way
def archived_with_tar():
    import tarfile

    with scratch() as folder:
        with tarfile.open(folder + "/x.tar", "w") as archive:
            archive.add(DATA, "data")
        with tarfile.open(folder + "/x.tar") as archive:
            return sorted((entry.name, entry.size, entry.isfile()) for entry in archive)


@way
def linked():
    with scratch() as folder:
        os.symlink(NOTE, folder + "/note")
        return text_of(folder + "/note"), os.path.getsize(folder + "/note")


@way
def linked_folder():
    with scratch() as folder:
        os.symlink(DATA, folder + "/data")
        return text_of(folder + "/data/note.txt"), sorted(os.listdir(folder + "/data"))


@way
def compared():
    import filecmp

    with scratch() as folder:
        shutil.copy2(NOTE, folder + "/note")
        return filecmp.cmp(NOTE, folder + "/note", shallow=False), filecmp.cmp(NOTE, folder + "/note")


@way
def translated():
    import gettext

    return gettext.translation("kit", HERE + "/locale", languages=["de"]).gettext("Yes")


@way
def configured():
    import configparser
    import xml.etree.ElementTree as tree
    import xml.sax

    reader = configparser.ConfigParser()
    reader.read(DATA + "/set.ini")
    xml.sax.parse(DATA + "/set.xml", xml.sax.ContentHandler())
    return [reader["a"]["b"], tree.parse(DATA + "/set.xml").getroot().tag]


@way
def kept_in_dbm():
    import dbm

    with dbm.open(DATA + "/table", "r") as table:
        return table[b"k"].decode()


@way
def served():
    import http.client
    import http.server
    import threading

    os.chdir(DATA)
    make = http.server.SimpleHTTPRequestHandler
    make.log_message = lambda *_: None
    server = http.server.HTTPServer(("127.0.0.1", 0), make)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection("127.0.0.1", server.server_port)
    client.request("GET", "/note.txt")
    answer = client.getresponse()
    text = answer.read().decode()
    server.shutdown()
    return [answer.status, text]


@way
def read_in_a_signal_handler():
    read = []
    signal.signal(signal.SIGUSR1, lambda *_: read.append(text_of(NOTE)))
    os.kill(os.getpid(), signal.SIGUSR1)
    return read


@way
def read_by_threads():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(text_of, [NOTE, DATA + "/set.ini"] * 20))


# ---- modules ------------------------------------------------------------------------------------------------------


@way
def vendored():
    sys.path.append(HERE + "/vendor")
    import beta

    return beta.NAME


@way
def added_path():
    sys.path.insert(0, HERE + "/plugins")
    import gamma

    return gamma.NAME


@way
def by_location():
    from importlib.util import module_from_spec, spec_from_file_location

    names = []
    for name in sorted(os.listdir(HERE + "/plugins")):
        spec = spec_from_file_location(name[:-3], os.path.join(HERE, "plugins", name))
        module = module_from_spec(spec)
        if name != "script.py":
            spec.loader.exec_module(module)
            names.append(module.NAME)
    return names


@way
def run_path():
    import runpy

    return runpy.run_path(HERE + "/plugins/gamma.py")["NAME"]


@way
def zipped():
    sys.path.insert(0, HERE + "/extra.zip")
    import delta

    return delta.NAME


@way
def by_resources():
    from importlib.resources import as_file, files

    top = files("kit")
    with as_file(top.joinpath("data/note.txt")) as path:
        return [sorted(one.name for one in top.joinpath("data").iterdir()), text_of(path)]


@way
def reloaded():
    import importlib

    from kit.cmds import hello

    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    return importlib.reload(hello).twice(5)


@way
def compiled():
    import py_compile

    with scratch() as folder:
        return os.path.getsize(py_compile.compile(HERE + "/plugins/gamma.py", folder + "/x.pyc", doraise=True)) > 0


# ---- C code -------------------------------------------------------------------------------------------------------


@way
def sqlite():
    import sqlite3

    with sqlite3.connect(HERE + "/places.db") as table:
        return table.execute("SELECT name FROM places").fetchall()


@way
def sqlite_by_uri():
    import sqlite3

    with sqlite3.connect("file:" + HERE + "/places.db?mode=ro", uri=True) as table:
        return table.execute("SELECT name FROM places").fetchall()


@way
def authorities():
    import ssl

    return len(ssl.create_default_context(cafile=HERE + "/roots.pem").get_ca_certs())


@way
def stdio():
    import ctypes

    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    room = ctypes.create_string_buffer(99)
    stream = ctypes.c_void_p(libc.fopen(os.fsencode(NOTE), b"r"))
    size = libc.fread(room, 1, 99, stream)
    return size, room.value.decode()


# ---- children and programs ----------------------------------------------------------------------------------------


@way
def working_folder():
    return said(["ls"], cwd=DATA).split()


@way
def reads_in_working_folder():
    return said(["cat", "note.txt"], cwd=DATA)


@way
def shell_reads():
    return said(["cat", NOTE])


@way
def shell_searches():
    return said("cd " + DATA + " && grep -r noted . && cat < " + NOTE, shell=True)


@way
def system():
    with scratch() as folder:
        return os.system("cat " + NOTE + " > " + folder + "/out"), text_of(folder + "/out")


@way
def pipe():
    with os.popen("cat " + NOTE) as source:
        return source.read()


@way
def program():
    return said([HERE + "/run.sh", "x"])


@way
def program_in_working_folder():
    return said(["./run.sh", "x"], cwd=HERE)


@way
def program_in_path():
    return said(["run.sh", "x"], env=dict(os.environ, PATH=HERE + ":" + os.environ["PATH"]))


@way
def which():
    found = shutil.which(HERE + "/run.sh")
    return found is not None and os.system(found + " >/dev/null") == 0


@way
def spawn_program():
    if not hasattr(os, "posix_spawn"):
        return None
    pid = os.posix_spawn(HERE + "/run.sh", ["run.sh"], os.environ)
    return os.waitpid(pid, 0)[1] >> 8


@way
def replaced_by_program():
    child = os.fork()
    if not child:
        os.execv(HERE + "/run.sh", ["run.sh"])
    return os.waitpid(child, 0)[1]


@way
def without_environment():
    return said(["/bin/cat", NOTE], env={})


@way
def child_module():
    return python("-m", "kit.cmds.hello", env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))


@way
def child_script():
    return python(HERE + "/plugins/script.py")


READ = "import sys; print(open(sys.argv[1]).read())"
IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); from kit.cmds import hello; print(hello.twice(3))"


@way
def child_isolated():
    return [python(flags, "-c", READ, NOTE) for flags in ("-I", "-S", "-E", "-ISE")]


@way
def child_isolated_imports():
    return [python(flags, "-c", IMPORT, SITE) for flags in ("-I", "-S", "-E", "-ISE")]


@way
def child_without_environment():
    return python("-c", READ, NOTE, env={}), python("-ISE", "-c", IMPORT, SITE, env={})


@way
def grandchild():
    inner = "import subprocess, sys; print(subprocess.check_output(['cat', sys.argv[1]]).decode())"
    return python("-IS", "-c", inner, NOTE)


@way
def grandchild_without_environment():
    inner = "import subprocess, sys; print(subprocess.check_output(['/bin/cat', sys.argv[1]], env={}).decode())"
    return python("-IS", "-c", inner, NOTE, env={})


@way
def child_sees_its_own_environment():
    show = "import os; print(sorted(name for name in os.environ if name.startswith('LD_')))"
    both = dict(os.environ, LD_LIBRARY_PATH="/nowhere")
    return python("-IS", "-c", show), python("-IS", "-c", show, env=both), said(["env"], env={"A": "1"})


@way
def spawned():
    return in_pool("spawn")


@way
def by_fork_server():
    return in_pool("forkserver")


@way
def forked():
    return in_pool("fork")


def in_pool(method):
    import multiprocessing

    from kit.cmds import hello

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(hello.twice, [4, 5]), pool.map(size, [NOTE, DATA + "/set.ini"])


def size(path):
    return len(text_of(path))


@way
def in_subinterpreter():
    code = "assert open(%r).read() == 'noted'\nimport sys\nsys.path.insert(0, %r)\nimport kit.cmds.hello\n" % (
        NOTE,
        SITE,
    )
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = __import__(name)
        except ImportError:
            continue
        made = interpreters.create()
        return str(interpreters.run_string(made, code))
    return None


# ---- running them -------------------------------------------------------------------------------------------------


def run(function, restored):
    shutil.rmtree(restored, ignore_errors=True)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            result = {"result": function()}
        except BaseException as exc:
            result = {"error": "%s: %s" % (type(exc).__name__, exc)}
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"error": "it was ended"}


if __name__ == "__main__":
    print(json.dumps({function.__name__: run(function, sys.argv[2]) for function in WAYS}))
