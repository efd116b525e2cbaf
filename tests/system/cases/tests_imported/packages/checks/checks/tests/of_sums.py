"""Tests of sums."""

from checks.testing import assert_close
from checks.tests import sample


def test_rows():
    return all(assert_close(sum(row[:-1]), row[-1]) for row in sample("sums"))
