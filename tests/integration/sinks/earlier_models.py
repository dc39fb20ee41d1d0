"""Runs a module as the versions were that took each name which a model was logged by for a model of its own.

`python earlier_models.py stream`
"""

import runpy
import sys
from importlib import import_module

from spendmeter.values import models

models.canonical_model = lambda model, provider: model
models.names_of_model = lambda model, provider: (model,) if model else ()
models.selected_model = lambda wanted: wanted
# Not before: it takes these names as it is imported.
import_module("spendmeter.domain.matching")._MODELS_BY_THEIR_ONE_NAME = 1  # type: ignore[attr-defined]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
