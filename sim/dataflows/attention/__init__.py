"""The seven attention dataflows; importing this package registers them, slowest idea first."""

from tilewright.sim.dataflows.attention.family import ATTENTION  # isort: skip
from tilewright.sim.dataflows.attention.layerwise import LAYERWISE  # isort: skip
from tilewright.sim.dataflows.attention.soft_pipe import SOFT_PIPE  # isort: skip
from tilewright.sim.dataflows.attention.flat import FLAT  # isort: skip
from tilewright.sim.dataflows.attention.tileflow import TILEFLOW  # isort: skip
from tilewright.sim.dataflows.attention.fusemax import FUSEMAX  # isort: skip
from tilewright.sim.dataflows.attention.flash2 import FLASH2  # isort: skip
from tilewright.sim.dataflows.attention.mas import MAS  # isort: skip

__all__ = ["ATTENTION", "FLASH2", "FLAT", "FUSEMAX", "LAYERWISE", "MAS", "SOFT_PIPE", "TILEFLOW"]
