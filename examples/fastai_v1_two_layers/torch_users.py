"""What most models use of PyTorch, so that a layer made for this script serves more than one of them.

It trains a small convolutional network for two steps, saves it, loads it again, and runs it.
"""

import copy
import io
import json

import numpy as np
import torch
from torch import nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """A residual block that halves the picture and doubles the channels."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.second = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, bias=False)
        self.beside = nn.Conv2d(channels, 2 * channels, 1, stride=2, bias=False)

    def forward(self, x):
        """Give the block's output."""
        return functional.relu(self.beside(x) + self.second(functional.relu(self.norm(self.first(x)))), inplace=True)


def network():
    """Give a network with the usual kinds of layers."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        Block(64),
        Block(128),
        Pooled(),
        nn.BatchNorm1d(512),
        nn.Dropout(0.25),
        nn.Linear(512, 64),
        nn.ReLU(inplace=True),
        nn.Linear(64, 2),
    )


class Pooled(nn.Module):
    """Give the mean and the greatest value of each channel."""

    def forward(self, x):
        """Give a matrix."""
        both = [functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)]
        return torch.cat(both, 1).view(x.size(0), -1)


def train(model, images, labels):
    """Make a few steps, as a learner does."""
    loader = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=False, num_workers=0)
    steps = optim.Adam(model.parameters(), lr=1e-3)
    for batch, wanted in loader:
        loss = nn.CrossEntropyLoss()(model(batch), wanted)
        steps.zero_grad()
        loss.backward()
        steps.step()


def reloaded(model):
    """Give the model as it comes out of a file, and with the weights that come out of another."""
    whole, weights = io.BytesIO(), io.BytesIO()
    torch.save(model, whole)
    torch.save(model.state_dict(), weights)
    whole.seek(0)
    weights.seek(0)
    again = torch.load(whole, map_location="cpu")
    again.load_state_dict(torch.load(weights, map_location=torch.device("cpu")))
    return again


def as_images(pixels):
    """Do with pictures what is done in NumPy on their way to a tensor: as bytes, turned, scaled, compared."""
    bytes_ = np.rint(np.clip(pixels * 255, 0, 255)).astype(np.uint8)
    turned = np.ascontiguousarray(np.moveaxis(bytes_, 1, -1)[:, ::-1, ::-1])
    kinds = [turned.astype(kind) for kind in (np.float32, np.float64, np.int64, np.int32, bool)]
    angles = np.linspace(0, np.pi, 8, dtype=np.float32)
    spread = np.array([[np.cos(a), np.sin(a), 0.5] for a in angles]) @ np.eye(3)
    statistics = [f(kinds[1]) for f in (np.mean, np.std, np.min, np.max, np.median, np.sum)]
    chosen = np.where(np.isfinite(kinds[0]) & (kinds[0] > statistics[0]), kinds[0], 0)
    order = np.argsort(np.concatenate([angles, np.unique(kinds[2])[:3].astype(np.float32)]))
    drawn = [
        np.random.permutation(8),  # noqa: NPY002 (as models of that time draw)
        np.random.uniform(-1, 1, 4),  # noqa: NPY002
        np.random.randint(0, 9, 3),  # noqa: NPY002
        np.random.normal(size=3),  # noqa: NPY002
    ]
    parts = np.stack([chosen, np.exp(-np.abs(chosen)), np.sqrt(np.square(chosen)), np.log1p(chosen)]).reshape(4, -1)
    whole = np.frombuffer(turned.tobytes(), dtype=np.uint8).reshape(turned.shape)
    assert np.array_equal(whole, turned)
    assert str(np.array(["circle", "square"])[[0, 1]].tolist())
    assert len(drawn) + order.size + spread.size + parts.argmax() > 0
    stored = io.BytesIO()
    np.save(stored, parts)
    return np.moveaxis(turned[:, ::-1, ::-1].astype(np.float32), -1, 1) / 255


def main():
    """Print what the network says of images that it was trained on."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (as models of that time draw)
    torch.set_num_threads(1)
    pixels = np.random.RandomState(1).rand(8, 3, 32, 32).astype("float32")
    images, labels = torch.from_numpy(np.ascontiguousarray(as_images(pixels))), torch.arange(8) % 2
    mean = images.mean((2, 3), keepdim=True)
    images = (images - mean) / images.std()
    images = functional.interpolate(images, size=(48, 48), mode="bilinear", align_corners=False)
    grid = functional.affine_grid(torch.eye(2, 3).expand(8, 2, 3), images.size())
    images = functional.grid_sample(images, grid, padding_mode="reflection")
    model = network()
    train(model, images, labels)
    model = reloaded(copy.deepcopy(model)).eval()
    with torch.no_grad():
        model(images[:1])
        shares = functional.softmax(model(images), dim=1)
    best = shares.max(1)[1].numpy()
    print(json.dumps({"shares": [round(share, 4) for share in shares[:, 0].tolist()], "best": best.tolist()}))


if __name__ == "__main__":
    main()
