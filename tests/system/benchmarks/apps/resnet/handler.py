"""Classifies generated pictures with a residual network of torchvision, whose weights are made from a seed."""

import torch

torch.set_num_threads(1)
# torchvision's own C code may be made for another build of torch; its operators are declared then, and never called.
DECLARED = torch.library.Library("torchvision", "FRAGMENT") if torch.version.cuda is None else None
for operator in ("nms", "qnms") if DECLARED else ():
    DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision

torch.manual_seed(7)
MODEL = torchvision.models.resnet18(weights=None, num_classes=10).eval()


def handler(event, context):
    torch.manual_seed(event["seed"])
    pictures = torch.rand(event["count"], 3, event["size"], event["size"])
    if event.get("crop"):
        pictures = torchvision.transforms.functional.center_crop(pictures, [event["crop"]])
    with torch.inference_mode():
        chances, classes = MODEL(pictures).softmax(1).topk(event.get("top", 1))
    return {"classes": classes.tolist(), "chances": [[round(float(one), 3) for one in row] for row in chances]}
