"""Compiles a network of torchvision with random weights, the same ones each time, beside the handler."""

import sys

import torch

# torchvision's own C code may be made for another build of torch; its operators are declared then, and never called.
DECLARED = torch.library.Library("torchvision", "FRAGMENT") if torch.version.cuda is None else None
for operator in ("nms", "qnms") if DECLARED else ():
    DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision

torch.manual_seed(7)
model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
torch.jit.script(model).save(f"{sys.argv[1]}/resnet18.pt")
