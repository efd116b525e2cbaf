"""Operations of OpenCV, onnxruntime and onnx that the traced handler does not use.

usage: python vision_operations.py FOLDER_OF_PACKAGES WAY. See ways.py.
"""

import faulthandler
import hashlib
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])
sys.path.append(str(Path(__file__).parent))

import cv2
import numpy as np
import onnx
import onnxruntime
import ways
from onnx import TensorProto, helper, numpy_helper

faulthandler.enable()  # handles SIGSEGV, as many programs do
cv2.setNumThreads(1)
cv2.setRNGSeed(1)
onnxruntime.set_default_logger_severity(4)
DICE = np.random.default_rng(0)
IMAGE = cv2.GaussianBlur(DICE.integers(0, 256, (96, 128, 3), dtype=np.uint8), (5, 5), 0)
cv2.rectangle(IMAGE, (20, 20), (70, 60), (250, 30, 30), -1)
cv2.circle(IMAGE, (95, 50), 22, (20, 240, 90), -1)
GRAY = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY)
REAL = GRAY.astype(np.float32) / 255
BINARY = cv2.threshold(cv2.medianBlur(GRAY, 5), 127, 255, cv2.THRESH_BINARY)[1]
SHIFTED = np.roll(GRAY, (2, 3), (0, 1))
SOLID = DICE.random((12, 3)).astype(np.float32)
CAMERA = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
SEEN = cv2.projectPoints(SOLID, np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 4.0]), CAMERA, np.zeros(5))[0]
CORNERS = np.float32([[0, 0], [127, 0], [127, 95], [0, 95]])
MOVED = np.float32([[4, 7], [120, 2], [125, 90], [2, 93]])
SAMPLES = DICE.standard_normal((60, 4)).astype(np.float32)
LABELS = (SAMPLES[:, 0] > 0).astype(np.int32)


def coded(extension: str, *options: int, image: Any = IMAGE) -> list[Any]:
    done, data = cv2.imencode(extension, image, options)
    return [done, data, cv2.imdecode(data, cv2.IMREAD_UNCHANGED)]


def video(code: str, extension: str) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/video{extension}"
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*code), 10, (128, 96))
        for i in range(5):
            writer.write(np.roll(IMAGE, i, 1))
        writer.release()
        reader = cv2.VideoCapture(path)
        return [reader.read()[1] for _ in range(5)]


def features(detector: Any) -> list[Any]:
    points, described = detector.detectAndCompute(GRAY, None)
    return [np.array([(*p.pt, p.size, p.angle, p.response) for p in points]), described]


def matched() -> list[Any]:
    orb = cv2.ORB_create(50)
    found = cv2.BFMatcher(cv2.NORM_HAMMING).match(*(orb.detectAndCompute(g, None)[1] for g in (GRAY, SHIFTED)))
    return [np.array([(m.queryIdx, m.trainIdx, m.distance) for m in found])]


def network() -> Any:
    """Run OpenCV's inference with a model created here."""
    constant = numpy_helper.from_array(weights(2, 3, 2, 2), "w")
    known = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2, 7, 7])
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model(nodes, [1, 3, 8, 8], [constant], [known]), np.uint8))
    net.setInput(cv2.dnn.blobFromImage(IMAGE, 1 / 255, (8, 8)))
    return net.forward()


def qr_code() -> Any:
    return cv2.QRCodeDetector().detectAndDecode(
        np.kron(cv2.QRCodeEncoder_create().encode("text"), np.ones((8, 8), np.uint8))
    )


def trained(machine: Any) -> Any:
    machine.train(SAMPLES, cv2.ml.ROW_SAMPLE, LABELS)
    return machine.predict(SAMPLES)[1]


def forest() -> Any:
    machine = cv2.ml.RTrees_create()
    machine.setMaxDepth(4)
    machine.setTermCriteria((cv2.TERM_CRITERIA_MAX_ITER, 10, 0))
    return trained(machine)


def watershed() -> Any:
    markers = cv2.connectedComponents(BINARY)[1]
    return cv2.watershed(IMAGE, markers)


def background() -> Any:
    subtractor = cv2.createBackgroundSubtractorMOG2()
    return [subtractor.apply(np.roll(IMAGE, i, 1)) for i in range(4)]


def triangles() -> Any:
    division = cv2.Subdiv2D((0, 0, 128, 96))
    division.insert([(3.0, 4.0), (50.0, 60.0), (90.0, 10.0), (20.0, 80.0)])
    return division.getTriangleList()


def cut() -> Any:
    mask = np.zeros(GRAY.shape, np.uint8)
    cv2.setRNGSeed(3)
    return cv2.grabCut(IMAGE, mask, (15, 15, 60, 50), None, None, 2, cv2.GC_INIT_WITH_RECT)[0]


def written(text: str) -> Any:
    image = IMAGE.copy()
    cv2.putText(image, text, (5, 50), cv2.FONT_HERSHEY_COMPLEX, 0.7, (1, 2, 3), 2, cv2.LINE_AA)
    cv2.ellipse(image, (60, 40), (30, 10), 30, 0, 270, (9, 8, 7), 2)
    return cv2.polylines(image, [MOVED.astype(np.int32)], isClosed=True, color=(5, 5, 5))


def stored() -> Any:
    storage = cv2.FileStorage("a.yml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    storage.write("matrix", CAMERA)
    return storage.releaseAndGetString()


# ---- onnxruntime --------------------------------------------------------------------------------------------------


def model(nodes: list[Any], shape: list[int], constants: list[Any], outputs: list[Any]) -> bytes:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "graph", [entry], outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def infer(kind: str, *constants: Any, x: Any = SAMPLES, outputs: int = 1, **attributes: Any) -> list[Any]:
    """Run one ONNX operator; further inputs are constants."""
    named = [numpy_helper.from_array(np.asarray(c), f"c{i}") for i, c in enumerate(constants) if c is not None]
    inputs = ["x", *("" if c is None else f"c{i}" for i, c in enumerate(constants))]
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, inputs, names, **attributes)
    values = [onnx.ValueInfoProto(name=name) for name in names]  # types are inferred
    return list(session(model([node], list(x.shape), named, values)).run(None, {"x": x}))


def misfit() -> Any:
    data = model([helper.make_node("Sin", ["x"], ["y"])], [2, 2], [], [onnx.ValueInfoProto(name="y")])
    return session(data).run(None, {"x": np.zeros((3, 3), np.float32)})


def weights(*shape: int) -> Any:
    return np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def in_threads() -> list[Any]:
    found: list[Any] = [None] * 16

    def work(i: int) -> None:
        found[i] = [infer("Elu", alpha=1 + i / 10), cv2.bilateralFilter(REAL, 5, 1 + i, 3)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


PICTURE = weights(1, 3, 16, 16)
BOXES = np.abs(weights(1, 20, 4)) * 10
SCORES = np.abs(weights(1, 1, 20))
SEQUENCE = weights(5, 2, 4)
OPERATIONS = {
    "jpeg": lambda: coded(".jpg", cv2.IMWRITE_JPEG_QUALITY, 70),
    "progressive jpeg": lambda: coded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "webp": lambda: coded(".webp", cv2.IMWRITE_WEBP_QUALITY, 60),
    "tiff": lambda: coded(".tiff"),
    "jpeg 2000": lambda: coded(".jp2"),
    "bmp": lambda: coded(".bmp"),
    "ppm": lambda: coded(".ppm"),
    "hdr": lambda: coded(".hdr", image=IMAGE.astype(np.float32)),
    "gif": lambda: coded(".gif"),
    "avif": lambda: coded(".avif"),
    "png of 16 bits": lambda: coded(".png", image=GRAY.astype(np.uint16) * 257),
    "motion jpeg": lambda: video("MJPG", ".avi"),
    "mpeg 4": lambda: video("mp4v", ".mp4"),
    "bilateral": lambda: cv2.bilateralFilter(IMAGE, 7, 50, 50),
    "sobel": lambda: cv2.Sobel(GRAY, cv2.CV_32F, 1, 1, ksize=5),
    "laplacian": lambda: cv2.Laplacian(REAL, cv2.CV_32F),
    "canny": lambda: cv2.Canny(GRAY, 50, 150),
    "adaptive": lambda: cv2.adaptiveThreshold(GRAY, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 11, 2),
    "otsu": lambda: cv2.threshold(GRAY, 0, 255, cv2.THRESH_OTSU),
    "morphology": lambda: cv2.morphologyEx(GRAY, cv2.MORPH_TOPHAT, np.ones((5, 5), np.uint8)),
    "clahe": lambda: cv2.createCLAHE(2.0, (4, 4)).apply(GRAY),
    "equalize": lambda: cv2.equalizeHist(GRAY),
    "histogram": lambda: cv2.calcHist([IMAGE], [0, 1], None, [8, 8], [0, 256, 0, 256]),
    "colours": lambda: [cv2.cvtColor(IMAGE, c) for c in (cv2.COLOR_BGR2LAB, cv2.COLOR_BGR2HSV, cv2.COLOR_BGR2YUV_I420)],
    "warp": lambda: cv2.warpPerspective(IMAGE, cv2.getPerspectiveTransform(CORNERS, MOVED), (128, 96)),
    "remap": lambda: cv2.remap(REAL, REAL * 100, REAL * 80, cv2.INTER_LANCZOS4),
    "polar": lambda: cv2.warpPolar(IMAGE, (60, 60), (64, 48), 40, cv2.WARP_POLAR_LOG),
    "pyramid": lambda: cv2.pyrUp(cv2.pyrDown(IMAGE)),
    "denoise": lambda: cv2.fastNlMeansDenoising(GRAY, None, 10, 5, 11),
    "inpaint": lambda: cv2.inpaint(IMAGE, (BINARY > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA),
    "stylize": lambda: cv2.stylization(IMAGE),
    "contours": lambda: [cv2.minAreaRect(c) for c in cv2.findContours(BINARY, cv2.RETR_TREE, 2)[0]],
    "moments": lambda: cv2.HuMoments(cv2.moments(BINARY)),
    "hough": lambda: cv2.HoughLinesP(cv2.Canny(GRAY, 50, 150), 1, 0.02, 20),
    "components": lambda: cv2.connectedComponentsWithStats(BINARY),
    "distances": lambda: cv2.distanceTransform(BINARY, cv2.DIST_L2, 5),
    "watershed": watershed,
    "grab cut": cut,
    "triangles": triangles,
    "orb": lambda: features(cv2.ORB_create(50)),
    "sift": lambda: features(cv2.SIFT_create(50)),
    "akaze": lambda: features(cv2.AKAZE_create()),
    "brisk": lambda: features(cv2.BRISK_create()),
    "good features": lambda: cv2.goodFeaturesToTrack(GRAY, 20, 0.01, 5),
    "matches": matched,
    "template": lambda: cv2.matchTemplate(GRAY, GRAY[30:50, 30:60], cv2.TM_CCOEFF_NORMED),
    "flow": lambda: cv2.calcOpticalFlowFarneback(GRAY, SHIFTED, None, 0.5, 3, 9, 3, 5, 1.2, 0),
    "tracking": lambda: cv2.calcOpticalFlowPyrLK(GRAY, SHIFTED, CORNERS[:, None] / 2 + 20, None),
    "background": background,
    "pose": lambda: cv2.solvePnP(SOLID, SEEN, CAMERA, None),
    "pose of many": lambda: cv2.solvePnPRansac(SOLID, SEEN, CAMERA, None),
    "homography": lambda: cv2.findHomography(CORNERS, MOVED, cv2.RANSAC),
    "stereo": lambda: cv2.StereoSGBM_create(0, 16, 5).compute(GRAY, SHIFTED),
    "rodrigues": lambda: cv2.Rodrigues(np.array([0.1, 0.2, 0.3])),
    "dft": lambda: cv2.dft(REAL, flags=cv2.DFT_COMPLEX_OUTPUT),
    "dct": lambda: cv2.dct(REAL),
    "svd": lambda: cv2.SVDecomp(SAMPLES)[0],
    "eigen": lambda: cv2.eigen(SAMPLES.T @ SAMPLES),
    "solve": lambda: cv2.solve(SAMPLES, SAMPLES[:, :1].copy(), flags=cv2.DECOMP_QR),
    "kmeans": lambda: cv2.kmeans(SAMPLES, 3, None, (3, 10, 0.1), 2, cv2.KMEANS_PP_CENTERS)[2].shape,
    "network": network,
    "support vectors": lambda: trained(cv2.ml.SVM_create()),
    "forest": forest,
    "code": qr_code,
    "markers": lambda: cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(0), 7, 60),
    "text": lambda: written("text"),
    "storage": stored,
    "error of size": lambda: cv2.add(np.ones((3, 3)), np.ones((4, 5))),
    "error of type": lambda: cv2.medianBlur(REAL.astype(np.float64), 5),
    "error of kernel": lambda: cv2.GaussianBlur(GRAY, (4, 4), 0),
    "error of format": lambda: cv2.imencode(".nothing", GRAY),
    "error of network": lambda: cv2.dnn.readNetFromONNX(np.zeros(100, np.uint8)),
    "nothing decoded": lambda: cv2.imdecode(np.zeros(100, np.uint8), 1),
    "Conv": lambda: infer("Conv", weights(4, 3, 3, 3), weights(4), x=PICTURE, pads=[1, 1, 1, 1]),
    "ConvTranspose": lambda: infer("ConvTranspose", weights(3, 2, 3, 3), x=PICTURE, strides=[2, 2]),
    "MaxPool": lambda: infer("MaxPool", x=PICTURE, kernel_shape=[3, 3]),
    "LSTM": lambda: infer("LSTM", weights(1, 24, 4), weights(1, 24, 6), x=SEQUENCE, outputs=3, hidden_size=6),
    "GRU": lambda: infer("GRU", weights(1, 18, 4), weights(1, 18, 6), x=SEQUENCE, outputs=2, hidden_size=6),
    "Gemm": lambda: infer("Gemm", weights(4, 7), weights(7), alpha=0.5),
    "Einsum": lambda: infer("Einsum", weights(4, 5), equation="ij,jk->ki"),
    "Softmax": lambda: infer("Softmax", axis=1),
    "TopK": lambda: infer("TopK", np.array([2]), outputs=2),
    "NonMaxSuppression": lambda: infer("NonMaxSuppression", SCORES, np.array([5]), np.float32([0.4]), x=BOXES),
    "Resize": lambda: infer("Resize", None, np.float32([1, 1, 2, 1.5]), x=PICTURE, mode="cubic"),
    "RoiAlign": lambda: infer(
        "RoiAlign", BOXES[0], np.zeros(20, np.int64), x=PICTURE, output_height=2, sampling_ratio=2
    ),
    "GridSample": lambda: infer("GridSample", weights(1, 4, 4, 2), x=PICTURE),
    "LayerNormalization": lambda: infer("LayerNormalization", weights(4), weights(4)),
    "QuantizeLinear": lambda: infer("QuantizeLinear", np.float32(0.1), np.uint8(128)),
    "CumSum": lambda: infer("CumSum", np.int64(0)),
    "Gather": lambda: infer("GatherElements", np.zeros((2, 4), np.int64)),
    "Unique": lambda: infer("Unique", outputs=4),
    "Reduce": lambda: infer("ReduceLogSumExp", axes=[0]),
    "Det": lambda: infer("Det", x=weights(2, 4, 4)),
    "DFT": lambda: infer("DFT", x=weights(1, 16, 1), axis=1),
    "error of input": misfit,
    "error of operator": lambda: infer("NoSuchOperator"),
    "error of shape": lambda: infer("MatMul", weights(5, 5)),
    "error of model": lambda: session(b"no model at all"),
    "error while running": lambda: infer("Gather", np.array([1000])),
    "check": lambda: onnx.checker.check_model(onnx.ModelProto()),
    "shapes": lambda: str(onnx.shape_inference.infer_shapes(helper.make_model(helper.make_graph([], "g", [], [])))),
    "parser": lambda: str(onnx.parser.parse_graph("g (float[N] x) => (float[N] y) { y = Sin(x) }")),
    "error of parser": lambda: onnx.parser.parse_graph("this is no graph"),
    "threads": in_threads,
}


def digest(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if isinstance(value, list | tuple) and any(isinstance(part, np.ndarray | list | tuple) for part in value):
        return ", ".join(map(digest, value))
    return repr(value)


ways.go(OPERATIONS, digest)
