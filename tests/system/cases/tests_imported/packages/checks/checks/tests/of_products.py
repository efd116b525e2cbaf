"""Tests of products."""

import math

from checks.testing import assert_close
from checks.tests import sample


def test_rows():
    return all(assert_close(math.prod(row[:-1]), row[-1]) for row in sample("products"))
