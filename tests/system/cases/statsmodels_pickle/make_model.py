"""Fits the model and pickles it beside the handler."""

import pickle
import sys

import numpy as np
import statsmodels.api as sm

x = np.arange(20.0)
fitted = sm.OLS(3 * x + 1 + np.sin(x), sm.add_constant(x)).fit()
with open(f"{sys.argv[1]}/fitted.pickle", "wb") as file:
    pickle.dump(fitted, file)
