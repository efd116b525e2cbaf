"""Compares numbers with a package whose code imports its folder of tests."""

import checks


def handler(event, context):
    if "self_test" in event:
        return checks.self_test(event["self_test"])
    return checks.assert_close(*event["numbers"])
