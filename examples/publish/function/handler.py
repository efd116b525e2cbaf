"""Tell which Pillow the layer brings: the function itself has nothing but these lines."""

import PIL


def handler(event, context):  # noqa: ARG001 (Lambda passes them)
    return {"pillow": PIL.__version__}
