"""Why a group of operators does not fit: a learned model of validity, explanations of it, and cuts from these.

The graph explanation technique (GET) of Mills et al., "Applying Graph Explanation to Operator Fusion" (arXiv
2501.00636): a small graph neural network (:mod:`model`) learns from groups that the tool samples itself
(:mod:`samples`, :mod:`training`) whether a group fits a buffer; an explainer (:mod:`explainers`) names the edges most
responsible for an answer of "does not fit"; each is made a real cut, and cuts are taken by a greedy rule
(:mod:`splitter`). Needs PyTorch (extra: gnn).
"""
