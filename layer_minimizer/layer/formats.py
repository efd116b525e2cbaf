"""The forms in which the result of a run can be shipped."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """What is written to ``--output``."""

    LAYER = "layer"  # a zip, for a layer of AWS Lambda
    FOLDER = "folder"  # the files of that zip, for COPY in a Dockerfile
    IMAGE = "image"  # a container image, of a base image, the packages and the function

    def file_name(self, stem: str) -> str:
        """Return the default name of an output."""
        return stem + {"layer": ".zip", "folder": "", "image": ".tar"}[self.value]
