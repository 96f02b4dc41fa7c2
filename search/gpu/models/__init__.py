"""How measured tables are timed: a file a kind of kernels, which is found by being here.

A table is timed by the first model that covers it; ``register_model`` makes one known. Calibrated library kernels are
``library``, calls that are several of them ``sequences``.
"""
