"""What users compare numbers with."""


def assert_close(first, second, within=1e-9):
    if abs(first - second) > within:
        raise AssertionError(f"{first} is not {second} within {within}")
    return True
