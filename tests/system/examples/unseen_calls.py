"""Calls of fastai and its dependencies that the events of examples/fastai_vision do not make.

usage: python unseen_calls.py FOLDER_OF_THE_HANDLER OUTPUT [NAME...]

Works in the current folder, which should be empty; MODEL_PATH is the model of the example. Writes a line for each call
to the file OUTPUT: its name and its result or exception, without details that differ between processes.
"""

# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN204, BLE001, E402, ICN001, PD011, PLC0415 - calls import what they need

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.resources
import inspect
import io
import os
import pickle
import pkgutil
import random
import re
import sys
import warnings
from pathlib import Path

sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")

import handler

CALLS = {}


def call(function):
    """Register a function in the table of calls."""
    CALLS[function.__name__] = function
    return function


def plain(value):
    """Return a text that is the same for equal results in all processes."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().to_dense().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"{value.dtype}{value.shape} {digest}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{plain(key)}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        return f"{value.mode} {value.size} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return repr(value)


def line(name):
    """Return the line of one call."""
    import numpy as np
    import torch

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            text = plain(CALLS[name]())
    except Exception as error:
        text = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    text = re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
    text = re.sub(r"[^\s'\"]*/site-packages", ".../site-packages", text)
    for place in (os.getcwd(), sys.prefix, sys.base_prefix):
        text = text.replace(place, "...")
    text = text.encode("unicode_escape").decode()
    return f"{name}\t{text}\n"


# ---- shared by the calls ------------------------------------------------------------------------------------------


def image(side=64):
    """Return an image with various colors and shapes."""
    from PIL import Image

    found = Image.new("RGB", (side, side))
    found.putdata([(x * 7 % 256, y * 5 % 256, x * y % 256) for y in range(side) for x in range(side)])
    return found


def tensor_image(side=64):
    from fastai.vision.core import PILImage, TensorImage
    from fastai.vision.data import ToTensor

    return TensorImage(ToTensor()(PILImage.create(image(side)))[None].float() / 255)


def pictures():
    """Return a folder with a few images of two classes, created once."""
    from PIL import Image, ImageDraw

    root = Path("pictures")
    dice = random.Random(2)
    for kind in ("circle", "square") if not root.exists() else ():
        (root / kind).mkdir(parents=True)
        for number in range(8):
            drawn = Image.new("RGB", (64, 64), tuple(dice.randrange(150, 256) for _ in range(3)))
            box = [dice.randrange(4, 20), dice.randrange(4, 20), dice.randrange(30, 60), dice.randrange(30, 60)]
            shape = ImageDraw.Draw(drawn)
            (shape.ellipse if kind == "circle" else shape.rectangle)(box, fill=(dice.randrange(100), 0, 0))
            drawn.save(root / kind / f"{number}.png")
    return root


def loaders(**more):
    from fastai.vision.all import ImageDataLoaders

    return ImageDataLoaders.from_folder(pictures(), valid_pct=0.5, seed=1, bs=4, num_workers=0, **more)


def trained_learner(**more):
    """Return the learner of the example with data, and without progress bars."""
    from fastai.callback.progress import ProgressCallback
    from fastai.learner import load_learner

    learn = load_learner(os.environ["MODEL_PATH"])
    learn.dls = loaders(**more)
    learn.remove_cb(ProgressCallback)
    return learn


def new_learner(arch, metrics=()):
    from fastai.callback.progress import ProgressCallback
    from fastai.vision.learner import vision_learner

    learn = vision_learner(loaders(), arch, pretrained=False, metrics=list(metrics))
    learn.remove_cb(ProgressCallback)
    return learn


def filled(module):
    """Set reproducible parameters in a module, and return it."""
    import torch

    for at, parameter in enumerate(module.parameters()):
        parameter.data = torch.linspace(-0.5, 0.3 + at / 9, parameter.numel()).sin().view_as(parameter)
    return module.eval()


def axes_of(figure):
    return [(axes.get_title(), axes.get_xlabel(), len(axes.images), len(axes.lines)) for axes in figure.axes]


def drawn():
    """Return the pixels and the titles of the current figure, and close it."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure = plt.gcf()
    figure.canvas.draw()
    found = axes_of(figure), np.asarray(figure.canvas.buffer_rgba()).copy()
    plt.close("all")
    return found


def table():
    import pandas as pd

    count = 48
    return pd.DataFrame(
        {
            "kind": ["a", "b", "c"] * (count // 3),
            "size": [float(number % 7) for number in range(count)],
            "when": pd.date_range("2024-01-01", periods=count),
            "right": [number % 2 for number in range(count)],
        }
    )


# ---- the handler itself -------------------------------------------------------------------------------------------


@call
def handler_with_another_image_format():
    import base64

    out = io.BytesIO()
    image().save(out, "GIF")
    return handler.handler({"image": base64.b64encode(out.getvalue()).decode()}, None)


@call
def handler_without_an_image():
    return handler.handler({}, None)


# ---- transforms ---------------------------------------------------------------------------------------------------


@call
def transform_rotate():
    from fastai.vision.augment import Rotate

    return Rotate(30, p=1.0)(tensor_image(), split_idx=0)


@call
def transform_warp():
    from fastai.vision.augment import Warp

    return Warp(0.4, p=1.0)(tensor_image(), split_idx=0)


@call
def transform_flip():
    from fastai.vision.augment import FlipItem
    from fastai.vision.core import PILImage

    return FlipItem(1.0)(PILImage.create(image()), split_idx=0)


@call
def transform_dihedral():
    from fastai.vision.augment import Dihedral

    return Dihedral(p=1.0)(tensor_image(), split_idx=0)


@call
def transform_zoom():
    from fastai.vision.augment import Zoom

    return Zoom(max_zoom=2.0, p=1.0)(tensor_image(), split_idx=0)


@call
def transform_lighting():
    from fastai.vision.augment import Brightness, Contrast, Hue, Saturation

    given = tensor_image()
    return [kind(p=1.0)(given.clone(), split_idx=0) for kind in (Brightness, Contrast, Hue, Saturation)]


@call
def transform_random_erasing():
    from fastai.vision.augment import RandomErasing

    return RandomErasing(p=1.0)(tensor_image(), split_idx=0)


@call
def transform_random_resized_crop():
    from fastai.vision.augment import RandomResizedCrop
    from fastai.vision.core import PILImage

    return RandomResizedCrop(32)(PILImage.create(image()), split_idx=0)


@call
def transform_normalize():
    from fastai.data.transforms import Normalize
    from fastai.vision.core import imagenet_stats

    normalize = Normalize.from_stats(*imagenet_stats, cuda=False)
    return normalize.decode(normalize(tensor_image())), normalize(tensor_image())


@call
def transform_batch_of_augmentations():
    from fastai.vision.augment import aug_transforms

    batch = loaders(batch_tfms=aug_transforms(size=48, max_warp=0.3)).train.one_batch()
    return list(batch[0].shape), batch[0]


@call
def transform_points_and_boxes():
    from fastai.vision.augment import Flip
    from fastai.vision.core import TensorBBox, TensorImage, TensorPoint

    flip = Flip(p=1.0)
    both = flip((tensor_image(), TensorPoint([[[0.5, 0.25]]]), TensorBBox([[[-0.5, 0.0, 0.25, 0.5]]])), split_idx=0)
    return [type(each).__name__ for each in both], both, isinstance(both[0], TensorImage)


# ---- networks -----------------------------------------------------------------------------------------------------


@call
def network_xresnet18():
    from fastai.vision.models.xresnet import xresnet18

    return filled(xresnet18(n_out=3))(tensor_image())


@call
def network_xresnet34_with_attention():
    from fastai.vision.models.xresnet import xresnet34

    return filled(xresnet34(n_out=2, sa=True))(tensor_image())


@call
def network_unet():
    from fastai.vision.learner import create_unet_model
    from torchvision.models import resnet18

    return filled(create_unet_model(resnet18, 2, (64, 64), pretrained=False))(tensor_image())


@call
def network_squeezenet_of_torchvision():
    import torchvision

    return filled(torchvision.models.squeezenet1_1(num_classes=4))(tensor_image())


@call
def network_vision_transformer_of_torchvision():
    import torchvision

    small = torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3)
    return filled(small)(tensor_image())


@call
def network_detection_of_torchvision():
    import torchvision

    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    return {key: list(value.shape) for key, value in model.eval()(list(tensor_image()))[0].items()}


@call
def network_lstm():
    import torch

    return filled(torch.nn.LSTM(8, 16, num_layers=2, bidirectional=True))(torch.ones(5, 3, 8))


@call
def network_transformer():
    import torch

    model = torch.nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
    return filled(model)(torch.ones(1, 3, 16), torch.zeros(1, 2, 16))


@call
def network_with_hooks():
    import torch
    from fastai.callback.hook import hook_outputs, model_sizes

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    with hook_outputs(list(filled(model))) as hooks:
        model(tensor_image())
        return [tuple(stored.shape) for stored in hooks.stored], [tuple(size) for size in model_sizes(model)]


@call
def network_state_from_another_one():
    import torch

    return torch.nn.Linear(3, 4).load_state_dict(torch.nn.Linear(4, 3).state_dict())


# ---- a learner's other methods ------------------------------------------------------------------------------------


@call
def learner_validate():
    return list(trained_learner().validate())


@call
def learner_predicts_a_batch():
    from fastai.vision.utils import get_image_files

    learn = trained_learner()
    return learn.get_preds(dl=learn.dls.test_dl(get_image_files(pictures()).sorted(key=str), num_workers=0))


@call
def learner_predicts_with_augmentation():
    from fastai.vision.augment import aug_transforms

    return trained_learner(batch_tfms=aug_transforms()).tta(n=2)


@call
def learner_fits_one_cycle():
    from fastai.metrics import accuracy
    from fastai.vision.models.xresnet import xresnet18

    learn = new_learner(xresnet18, [accuracy])
    learn.fit_one_cycle(2, 1e-3)
    return learn.recorder.values, learn.recorder.losses, learn.recorder.hps["mom"]


@call
def learner_fine_tunes_with_callbacks():
    from fastai.callback.mixup import MixUp
    from fastai.callback.schedule import SchedCos, combine_scheds
    from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
    from fastai.callback.training import GradientAccumulation

    learn = trained_learner()
    callbacks = [MixUp(0.4), SaveModelCallback(), EarlyStoppingCallback(patience=1), GradientAccumulation(8)]
    learn.fine_tune(2, 1e-4, cbs=callbacks)
    return learn.recorder.values, combine_scheds([0.4, 0.6], [SchedCos(1, 2), SchedCos(2, 0)])(0.5)


@call
def learner_fits_with_another_optimizer_and_loss():
    from fastai.losses import FocalLossFlat
    from fastai.optimizer import Lookahead, RAdam

    learn = trained_learner()
    learn.loss_func, learn.opt_func = FocalLossFlat(), lambda params, lr: Lookahead(RAdam(params, lr=lr))
    learn.fit_flat_cos(1, 1e-3)
    return learn.recorder.losses


@call
def learner_in_mixed_precision():
    learn = trained_learner().to_fp16()
    learn.fit(1, 1e-3)
    return learn.recorder.losses


@call
def learner_finds_a_rate():
    learn = trained_learner()
    learn.path = Path.cwd()
    found = learn.lr_find(num_it=8, stop_div=False)
    return tuple(found), drawn()[0]


@call
def learner_shows_results():
    learn = trained_learner()
    learn.show_results(max_n=4, shuffle=False)
    return drawn()


@call
def learner_shows_a_batch():
    loaders().valid.show_batch(max_n=3)
    return drawn()


@call
def learner_summary():
    return trained_learner().summary()


@call
def learner_exported_and_loaded_again():
    from fastai.learner import load_learner

    learn = trained_learner()
    learn.path = Path.cwd()
    learn.export("again.pkl")
    return load_learner("again.pkl").predict(image())[1:]


@call
def learner_saves_and_loads_weights():
    learn = trained_learner()
    learn.path = Path.cwd()
    learn.save("weights")
    return str(learn.load("weights").path.name), sorted(os.listdir("models"))


@call
def learner_as_a_pickle():
    learn = trained_learner()
    return pickle.loads(pickle.dumps(learn)).predict(image())[2]


@call
def learner_records_to_a_file():
    from fastai.callback.progress import CSVLogger

    learn = trained_learner()
    learn.path = Path.cwd()
    learn.fit(1, 1e-3, cbs=CSVLogger())
    return re.sub(r"\d\d:\d\d", "time", Path("history.csv").read_text())


@call
def learner_with_segmentation_data():
    from fastai.callback.progress import ProgressCallback
    from fastai.metrics import DiceMulti
    from fastai.vision.all import SegmentationDataLoaders, get_image_files, unet_learner
    from PIL import Image
    from torchvision.models import resnet18

    masks = Path("masks")
    masks.mkdir(exist_ok=True)
    files = get_image_files(pictures() / "circle").sorted(key=str)
    for file in files:
        Image.open(file).convert("L").point(lambda level: level < 110).convert("L").save(masks / file.name)
    data = SegmentationDataLoaders.from_label_func(
        Path.cwd(), files, lambda file: masks / file.name, codes=["ground", "shape"], bs=2, seed=1, num_workers=0
    )
    learn = unet_learner(data, resnet18, n_out=2, pretrained=False, metrics=DiceMulti())
    learn.remove_cb(ProgressCallback)
    learn.fit(1, 1e-3)
    learn.show_results(max_n=1)
    return learn.recorder.losses, learn.recorder.values, drawn()


@call
def interpretation_of_a_classifier():
    from fastai.interpret import ClassificationInterpretation

    found = ClassificationInterpretation.from_learner(trained_learner())
    found.plot_confusion_matrix()
    figure = drawn()
    found.plot_top_losses(2)
    return found.confusion_matrix(), found.most_confused(), found.top_losses(2), figure, drawn()


@call
def interpretation_report():
    from fastai.interpret import ClassificationInterpretation

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        ClassificationInterpretation.from_learner(trained_learner()).print_classification_report()
    return shown.getvalue()


# ---- wrong inputs -------------------------------------------------------------------------------------------------


@call
def wrong_dtype():
    return trained_learner().model.eval()(tensor_image().double())


@call
def wrong_number_of_channels():
    return trained_learner().model.eval()(tensor_image()[:, :2])


@call
def wrong_shape_in_a_loss():
    import torch
    from fastai.losses import CrossEntropyLossFlat

    return CrossEntropyLossFlat()(torch.ones(3, 2), torch.ones(4, dtype=torch.long))


@call
def wrong_input_to_predict():
    return trained_learner().predict(object)


@call
def missing_image():
    return trained_learner().predict("missing.png")


@call
def corrupt_image():
    Path("corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 20)
    return trained_learner().predict("corrupt.png")


@call
def truncated_image():
    from PIL import Image

    out = io.BytesIO()
    image().save(out, "JPEG")
    return Image.open(io.BytesIO(out.getvalue()[:600])).convert("L")


@call
def corrupt_model():
    from fastai.learner import load_learner

    Path("corrupt.pkl").write_bytes(b"nonsense")
    return load_learner("corrupt.pkl")


@call
def unknown_metric():
    from fastai.metrics import AccumMetric, accuracy

    return accuracy, AccumMetric("nothing")(1, 2)


@call
def empty_folder_of_images():
    from fastai.vision.all import ImageDataLoaders

    Path("empty").mkdir(exist_ok=True)
    return ImageDataLoaders.from_folder("empty", valid_pct=0.5)


@call
def metrics_of_scikit_learn():
    import torch
    from fastai.metrics import APScoreMulti, BalancedAccuracy, CohenKappa, F1Score, MatthewsCorrCoef, RocAucBinary

    metrics = (F1Score(), BalancedAccuracy(), CohenKappa(), MatthewsCorrCoef())
    found = [(each.name, each(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))) for each in metrics]
    scores = torch.tensor([0.1, 0.8, 0.6, 0.3])
    return found, RocAucBinary()(scores, torch.tensor([0, 1, 1, 0])), APScoreMulti().name


@call
def metrics_of_fastai():
    import torch
    from fastai.metrics import Dice, JaccardCoeff, Perplexity, R2Score, accuracy, top_k_accuracy

    raw, right = torch.linspace(-1, 1, 12).sin().view(4, 3), torch.tensor([0, 1, 2, 2])
    return (
        accuracy(raw, right),
        top_k_accuracy(raw, right, k=2),
        Dice().name,
        JaccardCoeff().name,
        R2Score()(raw[:, 0], raw[:, 1]),
        Perplexity().name,
    )


# ---- fastai's other applications ----------------------------------------------------------------------------------


def tabular():
    from fastai.callback.progress import ProgressCallback
    from fastai.tabular.all import Categorify, FillMissing, Normalize, TabularDataLoaders, add_datepart, tabular_learner

    frame = add_datepart(table(), "when")
    data = TabularDataLoaders.from_df(
        frame,
        procs=[Categorify, FillMissing, Normalize],
        cat_names=["kind", "whenDayofweek"],
        cont_names=["size"],
        y_names="right",
        y_block=None,
        valid_idx=list(range(36, 48)),
        bs=8,
    )
    learn = tabular_learner(data, layers=[8, 4])
    learn.remove_cb(ProgressCallback)
    return frame, learn


@call
def tabular_learner_fits():
    _, learn = tabular()
    learn.fit_one_cycle(1, 1e-2)
    return learn.recorder.losses, learn.recorder.values


@call
def tabular_learner_predicts():
    frame, learn = tabular()
    rows = learn.dls.test_dl(frame.iloc[:5])
    return list(rows.xs.columns), learn.get_preds(dl=rows)


@call
def tabular_learner_shows_results():
    _, learn = tabular()
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        learn.show_results(max_n=3)
    return learn.dls.train.xs.describe().round(4).to_csv(), shown.getvalue()


@call
def collaborative_filtering():
    import pandas as pd
    from fastai.callback.progress import ProgressCallback
    from fastai.collab import CollabDataLoaders, collab_learner

    rows = [(f"u{number % 5}", f"i{number % 7}", float(number % 4)) for number in range(40)]
    data = CollabDataLoaders.from_df(pd.DataFrame(rows, columns=["user", "item", "rating"]), bs=8, seed=1)
    learn = collab_learner(data, n_factors=4, y_range=(0, 4))
    learn.remove_cb(ProgressCallback)
    learn.fit(1, 1e-2)
    return learn.recorder.losses


@call
def text_tokenized_by_rules():
    from fastai.text.core import BaseTokenizer, Tokenizer

    return list(Tokenizer(BaseTokenizer())("Hello WORLD, this is sooooo good <br />  it's")), Tokenizer.__name__


@call
def text_classifier():
    import pandas as pd
    from fastai.callback.progress import ProgressCallback
    from fastai.text.all import AWD_LSTM, BaseTokenizer, TextDataLoaders, Tokenizer, text_classifier_learner

    rows = [(f"the {word} is here {number}", word) for number in range(6) for word in ("cat", "dog")]
    data = TextDataLoaders.from_df(
        pd.DataFrame(rows, columns=["text", "label"]),
        tok_tfm=Tokenizer.from_df("text", tok=BaseTokenizer()),
        seed=1,
        bs=4,
        num_workers=0,
    )
    learn = text_classifier_learner(data, AWD_LSTM, pretrained=False)
    learn.remove_cb(ProgressCallback)
    learn.fit(1, 1e-3)
    return learn.recorder.losses, learn.predict("the cat")[2]


@call
def medical_images():
    from fastai.medical.imaging import DicomSegmentationDataLoaders

    return DicomSegmentationDataLoaders.__name__


@call
def fastcore_and_fastai_basics():
    from fastai.torch_core import show_images, tensor
    from fastcore.all import L, parallel, store_attr

    show_images([tensor_image()[0]] * 2, titles=["a", "b"])
    return L(1, 2, 3).map(str), list(parallel(str, range(4), n_workers=0)), tensor([1, 2]), drawn(), store_attr.__name__


@call
def star_imports():
    names = {}
    for module in ("fastai.vision.all", "fastai.tabular.all", "fastai.text.all", "fastai.collab"):
        exec(f"from {module} import *", names)
    return len(names), hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:16]


# ---- torch --------------------------------------------------------------------------------------------------------


class Small:
    """A network whose class is in this file, so that its source can be read."""

    def __new__(cls):
        import torch

        return filled(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)))


def given():
    import torch

    return torch.linspace(-1, 1, 6).view(2, 3)


@call
def torch_jit_script():
    import torch

    scripted = torch.jit.script(Small())
    out = io.BytesIO()
    torch.jit.save(scripted, out)
    out.seek(0)
    return scripted(given()), torch.jit.load(out)(given()), scripted.code


@call
def torch_jit_scripts_layers_of_the_library():
    import torch

    scripted = torch.jit.script(filled(torch.nn.LSTM(3, 4)))
    return scripted(given()[None]), torch.jit.script(filled(torch.nn.BatchNorm1d(3)))(given())


@call
def torch_jit_trace():
    import torch

    return torch.jit.trace(trained_learner().model.eval(), tensor_image())(tensor_image())


@call
def torch_fx():
    import torch

    traced = torch.fx.symbolic_trace(Small())
    return traced.code, traced(given()), [node.name for node in traced.graph.nodes]


@call
def torch_export():
    import torch

    program = torch.export.export(Small(), (given(),))
    return program.module()(given()), str(program.graph_signature)


@call
def torch_onnx():
    import torch

    return torch.onnx.export(Small(), (given(),), io.BytesIO())


@call
def torch_compile_eagerly():
    import torch

    def work(x):
        return torch.sin(x) + x.shape[0] if x.sum() > 100 else torch.cos(x)

    return torch.compile(work, backend="eager")(given()), torch.compile(Small(), backend="aot_eager")(given())


@call
def torch_compile_without_a_compiler():
    import torch

    try:
        return torch.compile(Small())(given())
    except Exception as error:
        raise RuntimeError(str(error).splitlines()[0]) from error


@call
def torch_dynamo_explains():
    import torch

    found = torch._dynamo.explain(torch.sin)(given())
    return found.graph_count, found.graph_break_count, torch._dynamo.list_backends()


@call
def torch_distributed():
    import torch

    return torch.distributed.is_available(), torch.distributed.is_initialized(), torch.distributed.get_rank()


@call
def torch_distributed_group_of_one():
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = given().clone()
        dist.all_reduce(found)
        return found, torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2)).module.in_features
    finally:
        dist.destroy_process_group()


@call
def torch_loader_with_a_worker():
    import torch
    from torch.utils.data import DataLoader, TensorDataset, random_split

    data = TensorDataset(given(), torch.arange(2))
    parts = random_split(data, [1, 1], generator=torch.Generator().manual_seed(1))
    return list(DataLoader(data, num_workers=1)), [part.indices for part in parts]


@call
def torch_loader_whose_worker_fails():
    from fastai.vision.all import PILImage
    from torch.utils.data import DataLoader

    try:
        return list(DataLoader(["missing.png"], num_workers=1, collate_fn=lambda names: PILImage.create(names[0])))
    except FileNotFoundError as error:
        raise RuntimeError(str(error).splitlines()[-1]) from error


@call
def torch_saves_and_loads():
    import torch

    out = io.BytesIO()
    torch.save({"a": given(), "model": Small()}, out)
    found = []
    for safely in (False, True):
        out.seek(0)
        try:
            found.append(torch.load(out, weights_only=safely)["model"](given()))
        except pickle.UnpicklingError as error:
            found.append(str(error))
    return found


@call
def torch_optimizers():
    import torch

    found = []
    for kind in (torch.optim.AdamW, torch.optim.LBFGS, torch.optim.Adagrad, torch.optim.SGD, torch.optim.Rprop):
        model = Small()
        optimizer = kind(model.parameters(), lr=0.1)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(given()).pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3).step()
        found.append((model[0].weight, optimizer.param_groups[0]["lr"]))
    return found


@call
def torch_functions_of_functions():
    import torch

    def squared(x):
        return (x**2).sum()

    hessian = torch.func.hessian(squared)(given()[0])
    return (
        torch.func.vmap(torch.func.grad(squared))(given()),
        hessian,
        torch.autograd.gradcheck(squared, given().double().requires_grad_()),
    )


@call
def torch_quantizes():
    import torch

    return torch.ao.quantization.quantize_dynamic(Small(), {torch.nn.Linear}, dtype=torch.qint8)(given())


@call
def torch_prunes_and_parametrizes():
    from torch.nn.utils import parametrizations, prune

    pruned = prune.l1_unstructured(Small()[0], "weight", 0.5)
    return pruned.weight, parametrizations.orthogonal(Small()[0]).weight


@call
def torch_distributions():
    import torch
    from torch.distributions import Categorical, MultivariateNormal, kl_divergence

    normal = MultivariateNormal(torch.zeros(2), torch.eye(2))
    return (
        normal.sample((3,)),
        normal.log_prob(torch.ones(2)),
        kl_divergence(Categorical(torch.ones(3)), Categorical(torch.arange(1.0, 4))),
    )


@call
def torch_profiles():
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        given().matmul(given().T)
    return sorted({event.key for event in profile.key_averages()})


@call
def torch_on_a_gpu_that_is_not_there():
    import torch

    return torch.cuda.is_available(), torch.backends.mps.is_available(), torch.ones(1).cuda()


@call
def torch_on_the_meta_device():
    import torch

    convolved = torch.nn.Conv2d(3, 4, 3, device="meta")(torch.ones(1, 3, 8, 8, device="meta"))
    return convolved.shape, torch.linalg.eigh(torch.ones(3, 3, device="meta"))[1].shape


@call
def torch_generator():
    import torch

    generator = torch.Generator().manual_seed(3)
    return torch.rand(4, generator=generator), torch.randperm(5, generator=generator)


@call
def torch_meta_and_flop_counter():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        Small()(given())
    return counter.get_total_flops(), torch.nn.Linear(3, 2, device="meta").weight.is_meta


@call
def torchvision_transforms():
    import torch
    from torchvision.transforms import v2

    both = v2.Compose([v2.ToImage(), v2.RandomRotation(20), v2.ColorJitter(0.4), v2.ToDtype(torch.float32, scale=True)])
    return both(image()), v2.functional.gaussian_blur(v2.functional.pil_to_tensor(image()), [5, 5])


@call
def torchvision_operator_without_its_extension():
    import torch
    from torchvision.ops import nms

    return nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)


# ---- other packages -----------------------------------------------------------------------------------------------


@call
def scipy_functions():
    import numpy as np
    import scipy.optimize
    import scipy.signal
    import scipy.stats

    wave = np.sin(np.linspace(0, 9, 50))
    found = scipy.optimize.minimize(scipy.optimize.rosen, [2.0, 2.0])
    return scipy.signal.find_peaks(wave)[0], found.x, found.message, scipy.stats.ttest_ind(wave, wave + 1).pvalue


@call
def scipy_raises():
    import scipy.linalg

    return scipy.linalg.cholesky([[1, 2], [2, 1]])


@call
def sympy_simplifies():
    import sympy

    x = sympy.Symbol("x")
    equation = sympy.solve(x**2 - 2, x)
    return (
        str(sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)),
        str(sympy.integrate(sympy.exp(-x) * x, x)),
        str(equation),
        sympy.latex(sympy.sqrt(x)),
        str(sympy.diff(sympy.tan(x), x)),
    )


@call
def scikit_learn_fits():
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.random.default_rng(0).standard_normal((40, 3))
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))
    return cross_val_score(model, rows, (rows[:, 0] > 0).astype(int), cv=3), model


@call
def scikit_learn_raises():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().predict([[1.0]])


@call
def pandas_reads_and_groups():
    import pandas as pd

    read = pd.read_csv(io.StringIO(table().to_csv(index=False)), parse_dates=["when"])
    grouped = read.groupby("kind")["size"].agg(["mean", "std"]).round(6)
    return grouped.to_dict(), str(read.dtypes.to_dict()), read.pivot_table("size", "kind", "right").to_json()


@call
def pandas_resamples_and_merges():
    frame = table().set_index("when")
    return frame["size"].resample("W").sum().to_csv(), frame.merge(frame, on="kind").shape, frame.describe().to_html()


@call
def pandas_raises():
    return table()["nothing"]


@call
def pandas_without_an_engine():
    return table().to_parquet(io.BytesIO())


@call
def matplotlib_draws():
    import matplotlib.pyplot as plt
    from mpl_toolkits.mplot3d import Axes3D

    plt.figure().add_subplot(projection="3d").scatter([1, 2], [1, 2], [1, 2])
    three = drawn()
    plt.plot([1, 2, 3], label=r"$\alpha^2$")
    plt.legend()
    out = io.StringIO()
    plt.savefig(out, format="svg", metadata={"Date": None})
    return three, drawn(), len(out.getvalue()) > 5000, Axes3D.name


@call
def pillow_formats():
    from PIL import Image

    found = {}
    for kind in ("GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM", "JPEG2000", "TGA", "PCX", "SGI", "DDS", "AVIF"):
        out = io.BytesIO()
        try:
            image().save(out, kind)
            found[kind] = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
        except (OSError, KeyError) as error:
            found[kind] = repr(error)
    return found


@call
def pillow_draws():
    from PIL import ImageDraw, ImageFilter, ImageFont, ImageOps

    drawn_on = image()
    canvas = ImageDraw.Draw(drawn_on)
    canvas.text((2, 2), "Grüße", font=ImageFont.load_default(14), fill="red")
    canvas.polygon([(1, 1), (30, 5), (20, 40)], outline="hotpink")
    return drawn_on, ImageOps.autocontrast(drawn_on.filter(ImageFilter.MedianFilter(3))), canvas.textbbox((0, 0), "a")


@call
def pillow_font_that_is_missing():
    from PIL import ImageFont

    return ImageFont.truetype("nothing.ttf")


@call
def numpy_compares():
    import numpy as np

    return np.testing.assert_allclose([1.0], [1.1])


@call
def networkx_paths():
    import networkx as nx

    graph = nx.erdos_renyi_graph(12, 0.3, seed=1)
    return nx.shortest_path(graph, 0, 5), nx.pagerank(graph), nx.to_numpy_array(graph)


@call
def jinja_and_yaml():
    import jinja2
    import yaml

    rendered = jinja2.Template("{% for i in r %}{{ i|upper }}{% endfor %}").render(r="ab")
    return rendered, yaml.safe_load("a: [1, 2]"), yaml.safe_load("a: [")


@call
def requests_without_a_network():
    import requests

    try:
        return requests.get("http://127.0.0.1:1/nothing", timeout=1)
    except requests.ConnectionError as error:
        raise RuntimeError(type(error).__mro__) from error


# ---- package metadata and sources ---------------------------------------------------------------------------------


@call
def metadata_of_distributions():
    names = ("pandas", "torch", "numpy", "sympy", "pillow", "fastcore")
    return [importlib.metadata.version(name) for name in names], importlib.metadata.requires("fastai")


@call
def metadata_of_files_and_entry_points():
    found = importlib.metadata.distribution("torch")
    return found.metadata["Summary"], sorted(point.name for point in found.entry_points), len(found.files)


@call
def metadata_that_is_missing():
    return importlib.metadata.version("nothing-of-this-name")


@call
def source_of_a_cold_module():
    import sympy.ntheory.factor_

    text = inspect.getsource(sympy.ntheory.factor_)
    lines = inspect.getsourcelines(sympy.ntheory.factor_.smoothness)
    return hashlib.sha256(text.encode()).hexdigest(), lines[1], len(lines[0]), inspect.getdoc(sympy.ntheory.factor_)


@call
def source_of_a_function_that_ran():
    from fastai.learner import Learner
    from torch.nn import functional

    return inspect.getsource(Learner.predict), hashlib.sha256(inspect.getsource(functional).encode()).hexdigest()


@call
def source_of_what_has_none():
    import torch

    return inspect.getsource(torch.relu)


@call
def documentation_of_what_ran():
    import torch
    from fastai.learner import Learner

    return inspect.getdoc(torch.nn.Linear), inspect.getdoc(Learner.predict), torch.nn.functional.softmax.__doc__


@call
def signature_and_help():
    import pydoc

    from sklearn.svm import SVC

    return str(inspect.signature(SVC)), hashlib.sha256(pydoc.plain(pydoc.render_doc(SVC)).encode()).hexdigest()


@call
def data_files_by_importlib():
    files = importlib.resources.files("sklearn.datasets.data")
    listed = sorted(each.name for each in files.iterdir() if each.name != "__pycache__")
    with importlib.resources.as_file(files / "iris.csv") as real:
        return listed, real.read_bytes(), (files / "iris.csv").read_text()[:40]


@call
def data_files_by_name():
    import matplotlib
    import sklearn.datasets

    fonts = sorted(path.name for path in Path(matplotlib.get_data_path(), "fonts/ttf").glob("*.ttf"))
    read = pkgutil.get_data("sklearn.datasets", "data/wine_data.csv")
    return fonts, len(read), sklearn.datasets.load_digits().data.sum()


@call
def data_file_that_is_missing():
    return pkgutil.get_data("sympy", "nothing.txt")


@call
def submodules_of_packages():
    import fastai
    import torch

    found = [each.name for package in (torch, fastai) for each in pkgutil.iter_modules(package.__path__)]
    return sorted(found)


@call
def submodules_walked():
    import fastai.callback

    return [each.name for each in pkgutil.walk_packages(fastai.callback.__path__, "fastai.callback.")]


@call
def modules_found_without_an_import():
    from importlib.util import find_spec

    names = ("sympy.physics", "torch.utils.tensorboard", "pandas.nothing", "scipy.io.matlab")
    return [(name, spec is not None and spec.name) for name in names for spec in [find_spec(name)]]


@call
def module_that_is_missing():
    import torch.nothing_of_this_name

    return torch.nothing_of_this_name


@call
def name_that_is_missing():
    from scipy.optimize import nothing_of_this_name

    return nothing_of_this_name


@call
def attribute_that_is_missing():
    import sklearn

    return sklearn.nothing_of_this_name


@call
def module_loaded_again():
    import sympy

    module = importlib.import_module("sympy.printing.latex")
    return importlib.reload(module) is module, module.latex(sympy.Symbol("x"))


@call
def dropped_distribution():
    import spacy

    return spacy.__name__


def main():
    handler.handler({"path": "square.png"}, None)  # as a traced event
    import torch

    torch.set_num_threads(1)
    with open(sys.argv[2], "w", encoding="utf-8") as output:
        for name in sys.argv[3:] or CALLS:
            output.write(line(name))
            output.flush()  # before a fork, and where the process ends early


main()
