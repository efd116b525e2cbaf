"""Starts the layer's cold store where the layer merely stands in PYTHONPATH, before the program's first import.

The site customisation that the interpreter would have found without this file runs as usual.
"""

from _layer_minimizer.customize import begin

begin(__file__)
