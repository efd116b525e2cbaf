"""Checks of tables; like some well-known packages it imports its own tests."""

from checks.testing import assert_close
from checks.tests import self_test

__all__ = ["assert_close", "self_test"]
