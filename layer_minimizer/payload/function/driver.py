"""Starts the Runtime Interface Emulator, posts events to it, measures memory and /tmp, and prints the results as JSON.

argv[1] is a JSON file with: ``emulator`` (the program), ``runtime`` (the folder with bootstrap.py and awslambdaric),
``environment`` (the function's, on top of this process' own), ``events`` ([name, JSON text] rows), ``memory`` (bytes),
``timeout`` (seconds for one event). Judges nothing, but for memory: a function over its limit is killed, as in Lambda.
Runs inside the emulated function, alone with it: CPython 3.6 and later, the standard library alone.
"""

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

TASK = "/var/task"
IMAGE_RUNTIME = "/var/runtime/bootstrap"
PATH = "/2015-03-31/functions/function/invocations"
# No other process than the function has a port here.
HOST, PORT, RUNTIME_PORT = "127.0.0.1", 8080, 9001
FILES = 1024
INTERVAL = 0.02
LOG_LINES = 400
# The client waits a little longer than the emulator, which reports a timeout itself.
GRACE = 30
INIT = "INIT REPORT(durationMs: "


def _fields(pid):
    """Return the sizes in bytes that the kernel reports for a process; a zombie has none."""
    found = {}
    with open("/proc/%s/status" % pid) as status:
        for line in status:
            if line.startswith(("VmRSS:", "VmHWM:")):
                name, size = line.split()[:2]
                found[name] = int(size) * 1024
    return found


def _proportional(pid):
    """Return the resident bytes of a process in which each shared page counts for its part."""
    with open("/proc/%s/smaps_rollup" % pid) as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class Watch(threading.Thread):
    """Samples the memory of all the function's processes, and what lies in /tmp."""

    def __init__(self, emulator, limit):
        threading.Thread.__init__(self, daemon=True)
        self.others = {os.getpid(), emulator}
        self.limit = limit
        self.peak = self.tmp = 0
        self.over = False
        self.ended = threading.Event()

    def processes(self):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in self.others]

    def sample(self):
        sizes = {}
        for pid in self.processes():
            try:
                fields = _fields(pid)
            except (OSError, ValueError):
                continue
            if "VmRSS:" in fields:
                sizes[pid] = fields["VmRSS:"]
                self.peak = max(self.peak, fields.get("VmHWM:", 0))
        if len(sizes) > 1:
            for pid in sizes:
                try:
                    sizes[pid] = _proportional(pid)
                except (OSError, ValueError):
                    pass
        self.peak = max(self.peak, sum(sizes.values()))
        room = os.statvfs("/tmp")
        self.tmp = max(self.tmp, (room.f_blocks - room.f_bfree) * room.f_frsize)
        if self.peak > self.limit:
            self.over = True
            for pid in sizes:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass

    def run(self):
        while not self.ended.wait(INTERVAL):
            self.sample()


class Log(threading.Thread):
    """Keeps the end of the emulator's and the function's output, and all lines about the init phase."""

    def __init__(self, stream):
        threading.Thread.__init__(self, daemon=True)
        self.stream, self.lines, self.init = stream, [], []

    def run(self):
        for raw in iter(lambda: self.stream.readline(1 << 16), b""):
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if INIT in line:
                self.init.append(float(line.partition(INIT)[2].partition(")")[0]))
            self.lines.append(line[:2000])
            del self.lines[:-LOG_LINES]


def _connect(connection):
    """Wait for the emulator, which may still be starting."""
    attempts = 100
    while connection.sock is None:
        try:
            connection.connect()
        except ConnectionRefusedError:
            attempts -= 1
            if not attempts:
                raise
            time.sleep(0.05)


def post(payload, timeout):
    """Return the status and body of one invocation."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=timeout)
    try:
        _connect(connection)
        connection.request("POST", PATH, payload.encode("utf-8"), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def _is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def invoke(settings, watch):
    """Post the events one after the other, up to the first that broke the function."""
    answers = []
    for name, payload in settings["events"]:
        try:
            status, body = post(payload, settings["timeout"] + GRACE)
        except (OSError, http.client.HTTPException) as exc:
            status, body = 0, "%s: %s" % (type(exc).__name__, exc)
        answers.append([name, status, body])
        watch.sample()
        if watch.over or status != 200 or not _is_json(body):
            break
    return answers


def start(settings):
    environment = dict(os.environ)
    environment.pop("HOME", None)
    environment.update(settings["environment"])
    if os.path.exists(IMAGE_RUNTIME):
        command, folder = [IMAGE_RUNTIME], os.path.dirname(IMAGE_RUNTIME)
    else:
        folder = settings["runtime"]
        command = [sys.executable, folder + "/bootstrap.py", environment["_HANDLER"]]
        if environment.get("AWS_LAMBDA_EXEC_WRAPPER"):
            # As the bootstrap of Lambda's images does by itself.
            command.insert(0, environment["AWS_LAMBDA_EXEC_WRAPPER"])
    environment["LAMBDA_RUNTIME_DIR"] = folder
    ports = [
        "--runtime-interface-emulator-address",
        "%s:%d" % (HOST, PORT),
        "--runtime-api-address",
        "%s:%d" % (HOST, RUNTIME_PORT),
    ]
    return subprocess.Popen(
        [settings["emulator"]] + ports + command,
        cwd=TASK,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def main():
    with open(sys.argv[1], "rb") as source:
        settings = json.loads(source.read().decode("utf-8"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    emulator = start(settings)
    log, watch = Log(emulator.stdout), Watch(emulator.pid, settings["memory"])
    log.start()
    watch.start()
    answers = invoke(settings, watch)
    watch.ended.set()
    watch.join()
    emulator.terminate()
    try:
        emulator.wait(5)
    except subprocess.TimeoutExpired:
        emulator.kill()
    log.join(2)
    report = {
        "python": list(sys.version_info[:2]),
        "answers": answers,
        "init": log.init,
        "peak": watch.peak,
        "tmp": watch.tmp,
        "over": watch.over,
        "log": log.lines,
    }
    sys.stdout.write("\n" + json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
