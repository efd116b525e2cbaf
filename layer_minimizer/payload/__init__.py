"""Code that runs somewhere else: in the traced process, in the layer, in Lambda. No other room imports it."""
