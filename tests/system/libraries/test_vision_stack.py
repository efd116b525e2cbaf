"""Restoring pages of OpenCV, onnxruntime and onnx: operations that were not traced give the original results."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import MINIMIZE

from .conftest import stack_of

pytestmark = pytest.mark.example
REQUIREMENTS = """
flatbuffers==25.12.19
ml_dtypes==0.6.0
numpy==2.4.6
onnx==1.23.2
onnxruntime==1.32.0
opencv-python-headless==4.14.0.94
packaging==26.3
protobuf==7.36.2
typing_extensions==4.16.0
"""
MAKE_TASK = """
import base64, json, sys
import cv2, numpy, onnx
from onnx import TensorProto, helper

folder = sys.argv[1]
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8, 3]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "graph", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder + "/model.onnx")
image = numpy.arange(32 * 32 * 3, dtype=numpy.uint8).reshape(32, 32, 3)
data = base64.b64encode(cv2.imencode(".png", image)[1]).decode()
with open(folder + "/event.json", "w") as event:
    json.dump({"image": data}, event)
"""
HANDLER = """
import base64, os
import cv2, numpy, onnx, onnxruntime

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.onnx")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
version = onnx.load(path).ir_version

def handler(event, context):
    image = cv2.imdecode(numpy.frombuffer(base64.b64decode(event["image"]), numpy.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(image, (8, 8)).astype(numpy.float32)
    return {"sum": float(session.run(None, {"x": small})[0].sum()), "version": version}
"""
# Kernels that this machine does not select by default.
FLAVOURS = {
    "as traced": {},
    "oldest": {
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,FP16,AVX,SSE4.2,SSE4.1",
        "OPENCV_IPP": "disabled",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def stack(requirements_env: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return an environment with these packages, and its layer compacted for one small workload."""
    folder = tmp_path_factory.mktemp("vision")
    (folder / "requirements.txt").write_text(REQUIREMENTS.lstrip())
    (folder / "task").mkdir()
    (folder / "task/handler.py").write_text(HANDLER)

    def done(*command: object) -> str:
        ended = subprocess.run(list(map(str, command)), text=True, capture_output=True, check=False, timeout=900)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    python = requirements_env("vision", folder / "requirements.txt")
    done(python, "-I", "-B", "-c", MAKE_TASK, folder)
    minimize = [MINIMIZE, "-q", "--json", "--effort", "0"]
    task = ["--entry", folder / "task/handler.py", "--model", folder / "model.onnx", "--event", folder / "event.json"]
    layer = folder / "layer.zip"
    report = json.loads(done(*minimize, *task, "--python", python, "--max-size", "400MB", "--output", layer))
    assert report["verified"] is True
    compacted = {library["path"]: library for library in report["libraries"] if not library["problem"]}
    assert len(compacted) > 15
    for name in (
        "cv2/",
        "onnxruntime/capi/onnxruntime_pybind11_state",
        "onnx/",
        "opencv_python_headless.libs/libavcodec",
    ):
        (library,) = (library for path, library in compacted.items() if path.startswith(name))
        assert library["shipped"] < library["file"] * 0.7
    return stack_of(python, layer, folder / "mixed")


def originally(stack: Any, **variables: str) -> list[str]:
    """Return the output of the operations on the original packages, in sequence."""
    lines = str(stack.run("vision_operations.py", stack.original, "alone", **ALONE, **variables)).splitlines()
    assert len(lines) > 100
    return lines


def run(stack: Any, log: Path, *way: object, **variables: str) -> tuple[list[str], set[str]]:
    """Run the operations on the compacted libraries; return the output lines and the restored chunks."""
    variables = {**ALONE, **variables, "LAYER_MINIMIZER_LOG": str(log)}
    lines = stack.run("vision_operations.py", stack.mixed, *way, **variables).splitlines()
    return lines, {re.split(r"[-.]", name.split("/")[-1])[0] for name in log.read_text().splitlines()}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_operations_that_no_trace_saw(stack: Any, flavour: str, tmp_path: Path) -> None:
    found, restored = run(stack, tmp_path / "cold", "alone", **FLAVOURS[flavour])
    assert found == originally(stack, **FLAVOURS[flavour])
    assert {"cv2", "onnxruntime_pybind11_state", "onnx_cpp2py_export", "libavcodec"} <= restored


# ---- concurrency --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(stack: Any) -> list[str]:
    return originally(stack)


@pytest.mark.parametrize("turn", range(7))
def test_sixteen_threads_do_something_new_at_once(stack: Any, expected: list[str], turn: int, tmp_path: Path) -> None:
    found, restored = run(stack, tmp_path / "cold", "threads", turn)
    assert len(found) == 16
    assert found == [line for line in expected if line in found]
    assert {"cv2", "onnxruntime_pybind11_state"} <= restored


def test_children_and_their_parent_do_something_new_at_once(stack: Any, expected: list[str], tmp_path: Path) -> None:
    found, restored = run(stack, tmp_path / "cold", "children")
    assert found == [line for k in range(6) for line in expected[k % 3 :: 3]]
    assert {"cv2", "onnxruntime_pybind11_state"} <= restored
