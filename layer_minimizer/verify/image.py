"""Verify an image: run the workload in a container of it, read-only and as another user, and compare the results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import RunnerError, VerifyError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.execution import process
from layer_minimizer.execution.engine import ENGINE_FAILED, ENGINES, Engine, tail
from layer_minimizer.execution.probe import copy_probe
from layer_minimizer.layer import oci, root_files
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.function_variables import function_variables
from layer_minimizer.model.places import Places
from layer_minimizer.model.results import compare_results
from layer_minimizer.pack.base_image import PROGRAM_PATH
from layer_minimizer.verify.emulated_place import make_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.trace import Trace
    from layer_minimizer.pack.image import MadeImage

_PAYLOAD = Path(__file__).parents[1] / "payload"
_SUPPORT_DIR = "/layer_minimizer_proof"
_DRIVER = "image_driver.py"
# Lambda's user, whom images do not know.
_USER = "993:990"
_MEMORY = 3008  # MiB
# Time for the engine and the driver to start and end.
_GRACE_SECONDS = 120
# Exit codes of the engines, too, if the program in the container cannot be started.
_NOT_STARTED = (ENGINE_FAILED, 126, 127)
_CAUSES = {
    "Read-only file system": "An image is verified read-only: a container can write to /tmp only",
    "Permission denied": "An image is verified as an ordinary user, who can write to /tmp only",
    "KeyError": "Environment variables of this machine are not set in the image: --image-env sets one",
    "cannot open shared object": "A library that the traced run used is neither in the base image nor in the packages",
    "No module named": "A module that the traced run used is neither in the base image nor in the packages",
    "GLIBC": "The C library of the base image is older than the one that the library was built for",
}


@dataclass(frozen=True, slots=True)
class ImageProof:
    """What an image is verified with.

    Attributes:
        trace: the workload and its expected results.
        timeout: the time limit of the run, in seconds.
        tolerance: by how much numbers in results may differ.
        engine: ``docker`` or ``podman``; if empty, the first that works, else namespaces.
    """

    trace: Trace
    timeout: float
    tolerance: float
    engine: str = ""


@dataclass(frozen=True, slots=True)
class ProvedImage:
    """Where an image was verified, and the seconds until all results were there, with the start of Python."""

    where: str
    seconds: float


def prove_image(made: MadeImage, proof: ImageProof, scratch: Path) -> ProvedImage:
    """Run the workload in a container of an image, and compare the results.

    Raises:
        VerifyError: the workload fails there, or its results differ from those of the traced run.
        RunnerError: no container can be started here.
    """
    support = _write_support(made, proof, scratch)
    problems = []
    for name in (proof.engine,) if proof.engine else ENGINES:
        try:
            output = _run_in_engine(Engine.find(name), made, support, scratch, proof)
        except RunnerError as exc:
            problems.append(str(exc))
            continue
        return ProvedImage(name, _check(output, made, proof))
    if proof.engine:
        raise RunnerError(f"--engine {proof.engine}: the image cannot be verified: {problems[0]}")
    try:
        output = _run_in_namespaces(made, support, scratch, proof)
    except RunnerError as exc:
        listed = "\n".join(f"  {problem}" for problem in (*problems, str(exc)))
        raise RunnerError(f"the image cannot be verified here, so it was not written:\n{listed}") from exc
    return ProvedImage("namespaces", _check(output, made, proof))


# ---- the run ------------------------------------------------------------------------------------------------------


def _write_support(made: MadeImage, proof: ImageProof, scratch: Path) -> Path:
    """Write the folder with the driver and the probe, which is mounted into the container."""
    support, workload, base = scratch / "support", proof.trace.workload, made.base
    environment = function_variables(workload.entry.parent.name or "function", _MEMORY)
    if proof.trace.lazy_imports:
        environment[process.LAZY_IMPORTS_VARIABLE] = proof.trace.lazy_imports
    settings = {
        "root": base.folder,
        "module": workload.entry.stem,
        "handler": workload.handler,
        "events": [[event.name, event.payload, dict(event.context)] for event in workload.events],
        "study": "",
        "check": "",
        "room": None,
        "timed": "",
        "environment": environment,
        "sites": _sites(proof.trace.python) if base.for_lambda else [],
    }
    with scratch_errors(RunnerError, f"cannot write into {scratch}"):
        support.mkdir(parents=True)
        copy_probe(support)
        shutil.copyfile(_PAYLOAD / "function" / _DRIVER, support / _DRIVER)
        (support / "settings.json").write_text(json.dumps(settings))
        make_readable(support)
    return support


def _sites(python: str) -> list[str]:
    return [f"/opt/{layout.prefix(python)}" for layout in Layout]


def _command(made: MadeImage) -> list[str]:
    return [made.base.python, "-I", "-S", "-B", f"{_SUPPORT_DIR}/{_DRIVER}", _SUPPORT_DIR]


def _run_in_engine(engine: Engine, made: MadeImage, support: Path, scratch: Path, proof: ImageProof) -> str:
    """Load the image under a name of its own, run it, and remove it. Return the output.

    Raises:
        RunnerError: it cannot be loaded, or no container can be started.
    """
    archive, log = scratch / "proof.tar", scratch / "output"
    # The user may have another image of the same name.
    image = f"localhost/layer_minimizer-proof:{uuid.uuid4().hex[:16]}"
    oci.Layout(made.image, image).write_tar(archive)
    try:
        engine.read_output("load", "--input", str(archive), why="the image cannot be loaded:", grace_seconds=30)
        archive.unlink()
        with engine.container_name() as name:
            python, *arguments = _command(made)
            run = ["run", "--name", name, *_limits(support), "--entrypoint", python, image, *arguments]
            timeout = proof.timeout + _GRACE_SECONDS
            ended = process.run([engine.program, *run], os.environ, scratch, timeout=timeout, output=log)
    finally:
        engine.run(["image", "rm", "--force", image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    output = log.read_text(errors="replace")
    if ended.returncode in _NOT_STARTED and not _report(output):
        raise RunnerError(f"no container of the image can be started:\n{tail(output)}")
    return output


def _limits(support: Path) -> Iterator[str]:
    yield from ("--network", "none", "--read-only", "--user", _USER)
    yield from ("--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777")  # noqa: S108 - the only writable folder
    yield from ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "label=disable")
    yield from ("--mount", f"type=bind,source={support},target={_SUPPORT_DIR},readonly")


def _run_in_namespaces(made: MadeImage, support: Path, scratch: Path, proof: ImageProof) -> str:
    """Run the image in namespaces of this machine. Return the output.

    Raises:
        RunnerError: they cannot be created.
    """
    root, log = scratch / "root", scratch / "output"
    with scratch_errors(RunnerError, f"cannot unpack the image into {root}"):
        root_files.unpack(made.image, root)
    environment = {"PATH": PROGRAM_PATH, "HOME": "/", **made.image.environment}
    wanted = {
        "root": str(root),
        "binds": [[str(support), _SUPPORT_DIR]],
        "folder": made.base.folder,
        "environment": environment,
    }
    command = [sys.executable, "-I", str(_PAYLOAD / "sandbox"), "image_root", json.dumps(wanted), *_command(made)]
    timeout = proof.timeout + _GRACE_SECONDS
    ended = process.run(command, {"PATH": PROGRAM_PATH}, scratch, timeout=timeout, output=log)
    shutil.rmtree(root, ignore_errors=True)
    output = log.read_text(errors="replace")
    if ended.returncode == process.NOT_ISOLATED:
        raise RunnerError(
            f"{output.strip()}. Namespaces need root, or a kernel that allows them for all users; docker or podman "
            "can be used instead"
        )
    return output


# ---- the results --------------------------------------------------------------------------------------------------


def _check(output: str, made: MadeImage, proof: ImageProof) -> float:
    """Compare the results; return the seconds of the run.

    Raises:
        VerifyError: they differ.
    """
    found = _report(output)
    outcome, trace = found.get("outcome"), proof.trace
    if outcome is None:
        raise VerifyError(
            f"in a container of the image the workload does not run:\n{_with_cause(tail(output.strip()))}"
        )
    if failure := (outcome["error"] or outcome["refused"]).strip():
        raise VerifyError(f"in a container of the image the entry does not run:\n{_with_cause(failure)}")
    rows = outcome["results"] if outcome["kind"] == "handler" else [["stdout", found["stdout"]]]
    places = Places.of(site=_sites(trace.python), task=made.base.folder)
    expected = [replace(result, value=places.rename(result.value)) for result in trace.named_results()]
    if differing := compare_results(expected, {name: places.rename(value) for name, value in rows}, proof.tolerance):
        raise VerifyError("in a container of the image the results differ:\n  " + "\n  ".join(map(str, differing[:10])))
    return round(float(found["seconds"]), 3)


def _report(output: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(output.rstrip().rpartition("\n")[2])
        found["outcome"]
    except (ValueError, TypeError, KeyError):
        return {}
    return found


def _with_cause(failure: str) -> str:
    for text, cause in _CAUSES.items():
        if text in failure:
            return f"{failure}\n{cause}."
    return failure
