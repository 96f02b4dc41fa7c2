"""Figures published by others, to be printed beside our own with their source."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.reports.quantity import percent_text, ratio_text
from tilewright.reports.ranking import Speedups

__all__ = ["MAS_ATTENTION", "PublishedHeadline", "published_headline", "published_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedHeadline:
    """A published speed-up and energy saving of one dataflow over another.

    Speed-ups are time over time; ``energy_saving_max`` is a share (0 to 1).
    """

    dataflow: str
    over: str
    simulated_speedup_max: float
    simulated_speedup_mean: float
    energy_saving_max: float
    measured_on: str
    measured_speedup_max: float
    measured_speedup_mean: float
    source: str
    note: str

    def to_dict(self) -> dict[str, str | float]:
        """Plain data, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


MAS_ATTENTION = PublishedHeadline(
    dataflow="mas",
    over="flat",
    simulated_speedup_max=2.75,
    simulated_speedup_mean=1.70,
    energy_saving_max=0.54,
    measured_on="DaVinci NPU",
    measured_speedup_max=1.76,
    measured_speedup_mean=1.42,
    source="MAS-Attention, arXiv 2411.17720",
    note="published for another machine and simulator: clock, vector costs and energy table are not given there",
)

_BY_MACHINE = {"edge-16x16": MAS_ATTENTION}


def published_headline(machine: str) -> PublishedHeadline | None:
    """The headline to print beside results on ``machine`` (a machine's name), if one belongs there."""
    return _BY_MACHINE.get(machine)


def published_rows(headline: PublishedHeadline, faster: Speedups, machine: str) -> list[list[str]]:
    """Our figures and the published ones: where, largest and mean speed-up, largest energy saving."""
    return [
        [
            f"here, simulated on {machine}",
            ratio_text(faster.largest),
            ratio_text(faster.mean),
            percent_text(faster.energy_saving_max),
        ],
        [
            "published, simulated",
            ratio_text(headline.simulated_speedup_max),
            ratio_text(headline.simulated_speedup_mean),
            percent_text(headline.energy_saving_max),
        ],
        [
            f"published, measured on a {headline.measured_on}",
            ratio_text(headline.measured_speedup_max),
            ratio_text(headline.measured_speedup_mean),
            "",
        ],
    ]
