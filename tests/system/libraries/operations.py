"""Operations of torch, numpy, scipy, pandas, scikit-learn and Pillow that the events of the example do not use.

usage: python operations.py FOLDER_OF_PACKAGES WAY. See ways.py.
"""

import faulthandler
import hashlib
import io
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])
sys.path.append(str(Path(__file__).parent))
faulthandler.enable()  # handles SIGSEGV, as many programs do

import numpy as np
import pandas as pd
import scipy.fft
import scipy.integrate
import scipy.interpolate
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.sparse.linalg
import scipy.spatial
import scipy.special
import scipy.stats
import sklearn.cluster
import sklearn.decomposition
import sklearn.ensemble
import sklearn.linear_model
import sklearn.neighbors
import sklearn.svm
import sklearn.tree
import torch
import ways
from PIL import Image, ImageFilter
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
F = nn.functional
A = torch.randn(40, 40)
B = torch.randn(2, 3, 16, 16)
N = np.random.default_rng(0).standard_normal((40, 40))
S = N @ N.T + 40 * np.eye(40)
Y = (N[:, 0] > 0).astype(int)
IMAGE = Image.fromarray((np.arange(64 * 64 * 3) % 251).astype(np.uint8).reshape(64, 64, 3))
FRAME = pd.DataFrame({"k": list("abab") * 10, "v": N[:, 0], "t": pd.date_range("2024-01-01", periods=40)})


def saved(kind):
    out = io.BytesIO()
    IMAGE.save(out, kind)
    return np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))


def filled(module):
    """Set reproducible parameters in a module, and return it."""
    for at, parameter in enumerate(module.parameters()):
        parameter.data = torch.linspace(-0.5, 0.3 + at / 9, parameter.numel()).sin().view_as(parameter)
    return module


def gradient():
    x = A.clone().requires_grad_()
    ((x.exp().sin() @ x).tanh().sum() + torch.logsumexp(x, 0).sum()).backward()
    return x.grad


def in_threads():
    found = [None] * 16

    def work(i):
        found[i] = torch.fft.irfft(torch.fft.rfft(torch.arange(64.0) * (i + 1))).sum().item()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(found)


def in_child():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(float(scipy.special.airy(1.5)[0])).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(read, 100).decode()


OPERATIONS = {
    "svd": lambda: torch.linalg.svd(A)[1],
    "qr": lambda: torch.linalg.qr(A)[0],
    "eigh": lambda: torch.linalg.eigvalsh(A @ A.T),
    "solve": lambda: torch.linalg.solve(A, A[:, :3]),
    "cholesky": lambda: torch.linalg.cholesky(A @ A.T + 40 * torch.eye(40)),
    "fft": lambda: torch.fft.fft2(A).abs(),
    "stft": lambda: torch.stft(A.flatten(), 32, return_complex=True, window=torch.ones(32)).abs(),
    "lstm": lambda: filled(nn.LSTM(8, 16))(torch.ones(5, 3, 8))[0],
    "gru": lambda: filled(nn.GRU(8, 16))(torch.ones(5, 3, 8))[0],
    "transformer": lambda: filled(nn.TransformerEncoderLayer(16, 2, batch_first=True)).eval()(torch.ones(1, 3, 16)),
    "conv1d": lambda: F.conv1d(B[:, :, 0], torch.ones(2, 3, 3)),
    "conv3d": lambda: F.conv3d(torch.ones(1, 1, 6, 6, 6), torch.ones(2, 1, 3, 3, 3)),
    "transposed": lambda: F.conv_transpose2d(B, torch.ones(3, 2, 3, 3)),
    "bicubic": lambda: F.interpolate(B, scale_factor=1.5, mode="bicubic"),
    "grid": lambda: F.grid_sample(B, torch.zeros(2, 4, 4, 2), align_corners=False),
    "ctc": lambda: F.ctc_loss(A[:10, None, :5].log_softmax(2), torch.tensor([[1, 2]]), (10,), (2,)),
    "sparse": lambda: A.to_sparse() @ A,
    "csr": lambda: A.relu().to_sparse_csr() @ A,
    "sort": lambda: A.sort(0)[1],
    "topk": lambda: A.topk(3)[0],
    "median": lambda: A.median(1)[0],
    "mode": lambda: (A * 3).int().mode(0)[0],
    "unique": lambda: torch.unique((A * 3).int()),
    "histc": lambda: torch.histc(A, 10),
    "cumprod": lambda: A.cumprod(0),
    "bfloat16": lambda: (A.bfloat16() @ A.bfloat16()).float(),
    "float64": lambda: A.double().erfinv().nan_to_num(),
    "complex": lambda: (torch.complex(A, A) @ torch.complex(A, A)).abs(),
    "einsum": lambda: torch.einsum("ij,jk,kl->il", A, A, A),
    "gradient": gradient,
    "jit": lambda: torch.jit.script(filled(nn.Linear(3, 3)))(torch.ones(2, 3)),
    "jit trace": lambda: torch.jit.trace(lambda x: x.sin() + 1, torch.ones(3))(torch.ones(4)),
    "adam": lambda: torch.optim.Adam([p := nn.Parameter(torch.ones(3))]).step() or p,
    "vmap": lambda: torch.func.vmap(torch.sin)(A),
    "special": lambda: torch.special.i1e(A) + torch.special.zeta(A.abs() + 2, torch.ones(1)),
    "torch threads": in_threads,
    "error shape": lambda: A @ torch.ones(3, 3),
    "error index": lambda: A[100],
    "error type": lambda: torch.ones(2, dtype=torch.int32).fft(),
    "error singular": lambda: torch.linalg.cholesky(-torch.eye(3)),
    "error save": lambda: torch.load(io.BytesIO(b"nonsense"), weights_only=True),
    "numpy svd": lambda: np.linalg.svd(N)[1],
    "numpy fft": lambda: np.fft.rfft2(N).real,
    "numpy poly": lambda: np.roots([1, -6, 11, -6]).real,
    "numpy random": lambda: np.random.default_rng(3).multivariate_hypergeometric([3, 4, 5], 6, 4),
    "numpy sort": lambda: np.argsort(N, kind="stable", axis=0),
    "numpy strings": lambda: np.array(["b", "a"]).astype("S").view(np.uint8),
    "numpy error": lambda: np.linalg.inv(np.zeros((3, 3))),
    "scipy lu": lambda: scipy.linalg.lu(N)[2],
    "scipy expm": lambda: scipy.linalg.expm(N / 40),
    "scipy schur": lambda: scipy.linalg.schur(S)[0],
    "scipy fft": lambda: scipy.fft.dctn(N),
    "scipy ode": lambda: scipy.integrate.solve_ivp(lambda _, y: -y, (0, 1), [1.0]).y,
    "scipy quad": lambda: scipy.integrate.quad(np.sin, 0, 3)[0],
    "scipy spline": lambda: scipy.interpolate.CubicSpline(range(40), N[0])(2.5),
    "scipy filter": lambda: scipy.ndimage.gaussian_filter(N, 2),
    "scipy minimize": lambda: scipy.optimize.minimize(scipy.optimize.rosen, [2.0, 2.0], method="L-BFGS-B").x,
    "scipy linprog": lambda: scipy.optimize.linprog([-1, -2], A_ub=[[1, 1]], b_ub=[4]).x,
    "scipy butter": lambda: scipy.signal.filtfilt(*scipy.signal.butter(3, 0.2), N[0]),
    "scipy splu": lambda: scipy.sparse.linalg.spsolve(scipy.sparse.csc_matrix(S), N[0]),
    "scipy eigs": lambda: scipy.sparse.linalg.eigsh(S, k=2, v0=np.ones(40))[0],
    "scipy tree": lambda: scipy.spatial.cKDTree(N).query(N[:3])[0],
    "scipy hull": lambda: scipy.spatial.ConvexHull(N[:, :3]).volume,
    "scipy special": lambda: scipy.special.hyp2f1(0.5, 1, 1.5, N / 5),
    "scipy stats": lambda: scipy.stats.genextreme(0.1).ppf([0.1, 0.5]),
    "pandas group": lambda: FRAME.groupby("k")["v"].agg(["mean", "std"]).to_numpy(),
    "pandas rolling": lambda: FRAME["v"].rolling(5).median().fillna(0).to_numpy(),
    "pandas resample": lambda: FRAME.set_index("t")["v"].resample("W").sum().to_numpy(),
    "pandas merge": lambda: FRAME.merge(FRAME, on="k").shape,
    "pandas csv": lambda: pd.read_csv(io.StringIO(FRAME.to_csv())).shape,
    "pandas error": lambda: FRAME["nothing"],
    "tree": lambda: sklearn.tree.DecisionTreeClassifier(random_state=0).fit(N, Y).predict(N),
    "forest": lambda: sklearn.ensemble.RandomForestClassifier(5, random_state=0).fit(N, Y).predict_proba(N),
    "svm": lambda: sklearn.svm.SVC().fit(N, Y).decision_function(N),
    "logistic": lambda: sklearn.linear_model.LogisticRegression().fit(N, Y).coef_,
    "lasso": lambda: sklearn.linear_model.Lasso().fit(N, N[:, 1]).coef_,
    "kmeans": lambda: sklearn.cluster.KMeans(3, random_state=0, n_init=1).fit(N).labels_,
    "neighbors": lambda: sklearn.neighbors.KNeighborsClassifier().fit(N, Y).predict(N),
    "pca": lambda: sklearn.decomposition.PCA(3).fit(N).explained_variance_,
    "gif": lambda: saved("GIF"),
    "tiff": lambda: saved("TIFF"),
    "webp": lambda: saved("WEBP"),
    "jpeg 2000": lambda: saved("JPEG2000"),
    "bmp": lambda: saved("BMP"),
    "blur": lambda: np.asarray(IMAGE.filter(ImageFilter.GaussianBlur(2))),
    "rotate": lambda: np.asarray(IMAGE.rotate(33, Image.Resampling.BICUBIC)),
    "quantize": lambda: np.asarray(IMAGE.quantize(8)),
    "child": in_child,
}


def digest(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().to_dense().contiguous().numpy()
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    return repr(value)


ways.go(OPERATIONS, digest)
