"""Classify shape.png with a fastai v1 model: a plain script as people have it, no Lambda handler in sight."""

import io
import json
from pathlib import Path

from fastai.vision import *

path = Path(__file__).resolve().parent  # where export.pkl lies
image_bytes = io.BytesIO((path / "shape.png").read_bytes())

# Load the model
learn = load_learner(path)
# Open the image
image = open_image(image_bytes)
# Run the prediction
__, __, outputs = learn.predict(image)

print(json.dumps(outputs.tolist()))
