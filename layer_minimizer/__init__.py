"""Fit a Python program into AWS Lambda: ship the files that its code uses, and prove that they suffice."""

from __future__ import annotations

from layer_minimizer.core.errors import (
    MinimizeError,
    PackError,
    PlanError,
    RunnerError,
    TraceError,
    UsageError,
    VerifyError,
)
from layer_minimizer.pipeline import minimize
from layer_minimizer.report.report import Report
from layer_minimizer.settings import Settings

__all__ = [
    "MinimizeError",
    "PackError",
    "PlanError",
    "Report",
    "RunnerError",
    "Settings",
    "TraceError",
    "UsageError",
    "VerifyError",
    "minimize",
]
