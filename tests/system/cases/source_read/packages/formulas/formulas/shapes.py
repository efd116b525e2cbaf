"""Areas."""


def square(a):
    return a * a


def circle(r):
    return 3.14159 * r**2


def longest(a, b):
    return max(a, b)
