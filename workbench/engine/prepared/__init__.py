"""Prepared weights: what a load leaves in a model's parameters, kept on the disk and mapped by later loads.

`preparation.py` is one load's part in them, `shaping.py` lists what of a configuration shapes weights, and
both know vLLM. The rest is a store of tensors that does not, and the maps that a worker keeps of them.
"""
