"""Volumes."""


def cube(a):
    return a * a * a


def cone(r, h):
    return 3.14159 * r**2 * h / 3
