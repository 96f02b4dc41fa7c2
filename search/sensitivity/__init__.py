"""How much worse a trained network gets when a layer is quantised: weight methods, error measures, their table.

Stands on PyTorch (extra ``bits``); nothing here is imported without being asked for.
"""
