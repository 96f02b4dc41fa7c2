"""The pace at which a mapping ends soonest: which of its ports are run slower than they could be, and by how much.

A mapping at full pace is a greedy schedule, in which a faster port can make the whole slower (Graham's anomalies). With
a pace for each port (:mod:`tilewright.sim.lowering.pace`) a machine with twice a bandwidth can do whatever the one with
half of it does, so the best over all paces is never slower with more. Few paces must be run: none ends before a run
in which no transfer shares a channel (:mod:`tilewright.sim.engine.alone`), nor before the busiest port has
passed its bytes, and both only grow as ports slow down. Nearly always the first is as long as the best that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from operator import le
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.spec import BufferSpec
from tilewright.sim.engine.alone import Alone, Layout, layout_of
from tilewright.sim.engine.image import AT_CHANNELS, AT_COMMANDS, AT_LISTS, AT_SEMAPHORES, COMMAND_SIZE, pack
from tilewright.sim.engine.program import channel_units, exact_shares
from tilewright.sim.engine.run import channel_bytes, run_images
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import build_phase, core_shares
from tilewright.sim.lowering.levels import channels_by_share, levels_of
from tilewright.sim.lowering.mapping import Phase, Tiling
from tilewright.sim.lowering.pace import MOST, Pace, costs_at, name_of, ports_of

__all__ = ["PacedRun", "Pacer", "cycles_below", "image_of", "least_cycles"]

Int64Array = npt.NDArray[np.int64]

_READ, _WRITE = ".read", ".write"
_CYCLES, _CHANNEL, _WORK, _BYTES = 0, 1, 2, 3  # fields of a command
_Steps = tuple[int, ...]  # by port: how often its rate is halved
_Rates = tuple[Fraction, ...]  # of channels, bytes a cycle


class PacedRun(NamedTuple):
    """A run at a pace, and the numbers that name it in a tiling."""

    cycles: int
    pace: dict[str, int]


def least_cycles(
    images: Sequence[Int64Array],
    *,
    layouts: Sequence[Layout] | None = None,
    n_threads: int | None = None,
    limit: int | None = None,
) -> Int64Array:
    """Cycles that none of the programs undercuts, whatever the pace of its ports; exact up to ``limit``, else some
    figure behind that. ``layouts``: theirs, where known.
    """
    known = layouts if layouts is not None else [layout_of(image) for image in images]
    alone = [Alone(image, layout).image for image, layout in zip(images, known, strict=True)]
    return run_images(alone, n_threads=n_threads, limit=limit)


def cycles_below(is_better: Callable[[int], bool], least: int, most: int) -> int:
    """The fewest cycles from ``least`` to ``most`` that are not better, else ``most``; fewer are better if more are."""
    while least < most:
        middle = (least + most) // 2
        if is_better(middle):
            least = middle + 1
        else:
            most = middle
    return most


def image_of(phase: Phase, costs: TileCosts, tiling: Tiling) -> Int64Array:
    """The packed program of a tiling."""
    written = None if phase.image is None else phase.image(phase, costs, tiling)
    return pack(build_phase(phase, costs, tiling))[0] if written is None else written


class _Form:
    """A program whose channels may have other rates."""

    def __init__(self, image: Int64Array, rates: _Rates) -> None:
        self.image = image
        self.rates = rates

    @cached_property
    def alone(self) -> Alone:
        """The program with its channels for each engine alone."""
        return Alone(self.image)

    @cached_property
    def content(self) -> bytes:
        """Equal for programs that differ by the rates of their channels alone."""
        image = self.image.copy()
        self._commands(image)[:, _WORK] = 0
        image[image[AT_CHANNELS] : image[AT_SEMAPHORES]] = 0
        return image.tobytes()

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Those that are used."""
        return tuple(sorted(self.alone.users))

    @cached_property
    def _moved(self) -> list[tuple[int, int]]:
        """Channels, and the bytes that pass each."""
        moved = channel_bytes(self.image)
        return [(at, moved[at]) for at in self.channels]

    @cached_property
    def _used(self) -> dict[int, tuple[tuple[int, ...], int]]:
        """Of the channels that are used: weights of the engines, and most bytes of a transfer."""
        commands = self._commands(self.image)
        return {
            at: (weights, int(commands[commands[:, _CHANNEL] == at, _BYTES].max()))
            for at, weights in self.alone.users.items()
        }

    def at(self, rates: _Rates) -> Int64Array:
        """The image with these rates. Raises InputError as :func:`tilewright.sim.engine.program.channel_units`."""
        image = self.image.copy()
        commands = self._commands(image)
        for at, (weights, most) in self._used.items():
            if rates[at] is not self.rates[at]:
                per_byte, per_cycle = channel_units(rates[at], exact_shares(weights), sum(weights), most)
                mine = commands[:, _CHANNEL] == at
                commands[mine, _WORK] = commands[mine, _BYTES] * per_byte
                image[image[AT_CHANNELS] + at] = per_cycle
        return image

    def slower(self, rates: _Rates) -> dict[int, Fraction]:
        """By how much channels that are used are slower with these rates, those that differ."""
        return {at: self.rates[at] / rates[at] for at in self.channels if self.rates[at] is not rates[at]}

    def is_busy(self, rates: _Rates, cycles: int) -> bool:
        """Whether some channel with these rates needs that many cycles or more for its bytes."""
        return any(n * rates[at].denominator >= cycles * rates[at].numerator for at, n in self._moved)

    def with_ports(self, buffer: BufferSpec, moved: _PortBytes) -> _Form:
        """The same with other ports of the working buffer, none faster."""
        image = self.image.copy()
        cycles = self._commands(image)[:, _CYCLES]
        needed = [access_cycles(buffer, read_bytes=read, write_bytes=written) for read, written in moved.distinct]
        np.maximum(cycles, np.array(needed, dtype=np.int64)[moved.which], out=cycles)
        found = _Form(image, self.rates)
        found.__dict__.update(alone=self.alone.like(image), channels=self.channels, _used=self._used)
        found.__dict__.update(_moved=self._moved)
        return found

    @staticmethod
    def _commands(image: Int64Array) -> Int64Array:
        return image[image[AT_COMMANDS] : image[AT_LISTS]].reshape(-1, COMMAND_SIZE)


class _PortBytes(NamedTuple):
    """Bytes that commands read and write through the working buffer's ports: the different ones, and which of them."""

    distinct: list[tuple[int, int]]
    which: Int64Array

    @classmethod
    def of(cls, moved: Int64Array) -> _PortBytes:
        """Of bytes by command."""
        distinct, which = np.unique(moved, axis=0, return_inverse=True)
        return cls([(read, written) for read, written in distinct.tolist()], which.ravel())


class _Forms(NamedTuple):
    """Programs of one tiling, by what kind of pace they are of."""

    by_kind: dict[object, _Form]
    port_bytes: dict[object, _PortBytes | None]
    explored: dict[tuple[int, ...], list[_Steps]]  # paces by the signs of their nodes

    def like(self, form: _Form) -> _Form:
        """The one that differs from ``form`` by the rates of its channels alone, else ``form``."""
        return next((known for known in self.by_kind.values() if known.content == form.content), form)


class _Node(NamedTuple):
    """A pace: its steps, the program that has its commands, and the rates of its channels; ``sign``: equal where all
    commands take the same.
    """

    steps: _Steps
    form: _Form
    rates: _Rates
    sign: tuple[int, ...]

    @classmethod
    def of(cls, steps: _Steps, form: _Form, rates: _Rates) -> _Node:
        """That of a pace."""
        return cls(steps, form, rates, (id(form), *(id(rates[at]) for at in form.channels)))  # equal rates are one

    @property
    def least(self) -> Int64Array:
        """An image whose run no run at this pace, or a slower one, undercuts."""
        slower = self.form.slower(self.rates)
        return self.form.alone.slowed(slower) if slower else self.form.alone.image


class Pacer:
    """The paces of one phase on one machine."""

    def __init__(self, phase: Phase, costs: TileCosts) -> None:
        self.phase = phase
        self.costs = costs
        self.ports = ports_of(costs.machine)
        near = f"{costs.machine.working_buffer.name}."
        self._near = [at for at, port in enumerate(self.ports) if port.startswith(near)]
        self._costs: dict[_Steps, TileCosts | None] = {}
        self._rates: dict[tuple[_Steps, int, tuple[int, ...]], _Rates] = {}
        self._kinds: dict[_Steps, object] = {}
        self._of_tiling: tuple[Tiling, int, tuple[int, ...]] | None = None  # channels of its program, cores by share
        self._same: dict[Fraction, Fraction] = {}  # of equal rates one
        self._mattering: dict[tuple[_Rates, tuple[int, ...]], list[int]] = {}

    def better_of(self, tiling: Tiling, limit: int) -> PacedRun | None:
        """As :meth:`better`, with a program that is not there yet."""
        return self.better(tiling, image_of(self.phase, self.costs, tiling), limit)

    def better(self, tiling: Tiling, image: Int64Array, limit: int) -> PacedRun | None:
        """The soonest end of ``tiling``, whose program that is, at any pace, where that is before ``limit``; of equals
        the first found, which slows least down.
        """
        full = (0,) * len(self.ports)
        root = _Form(image, self._rates_at(full, self.costs, tiling))
        forms = _Forms({self._kind(full): root}, {}, {})
        ports = self._ports_of(root, tiling)
        best: PacedRun | None = None
        front = [_Node.of(full, root, root.rates)]
        seen, known = {full}, {front[0].sign}
        forms.explored[front[0].sign] = [full]
        cut: list[_Steps] = []  # no pace is better that is slower than one of these
        while front:
            found = []
            for node in self._slower(front, ports, seen, cut, forms, tiling):
                if node.form.is_busy(node.rates, limit):
                    cut.append(node.steps)
                else:
                    found.append(node)
            least = run_images([node.least for node in found], limit=limit - 1).tolist()
            cut += [node.steps for node, cycles in zip(found, least, strict=True) if cycles >= limit]
            front = [node for node, cycles in zip(found, least, strict=True) if cycles < limit]
            new = list({node.sign: node for node in front if node.sign not in known}.values())
            known |= {node.sign for node in new}
            runs = run_images([node.form.at(node.rates) for node in new], limit=limit - 1).tolist()
            for node, cycles in zip(new, runs, strict=True):
                if cycles < limit:
                    limit, best = cycles, PacedRun(cycles, self._named(node.steps))
        return best

    def image_at(self, tiling: Tiling, pace: Mapping[str, int]) -> Int64Array:
        """The packed program of a tiling with ports so many times slower, each a power of two."""
        steps = tuple(pace.get(port, 1).bit_length() - 1 for port in self.ports)
        costs = self._costs_at(steps)
        assert costs is not None
        return self._form(steps, _Forms({}, {}, {}), tiling).at(self._rates_at(steps, costs, tiling))

    def _slower(
        self,
        front: Sequence[_Node],
        ports: Sequence[int],
        seen: set[_Steps],
        cut: Sequence[_Steps],
        forms: _Forms,
        tiling: Tiling,
    ) -> Iterator[_Node]:
        """Paces slower than those of ``front``: one port each, by the least that changes anything; none that is slower
        than one of ``cut``.
        """
        for node in front:
            for at in ports:
                for step in range(node.steps[at] + 1, MOST.bit_length()):
                    steps = (*node.steps[:at], step, *node.steps[at + 1 :])
                    if steps in seen or any(map(all, (map(le, one, steps) for one in cut))):
                        break
                    costs = self._costs_at(steps)
                    if costs is None:
                        break
                    kind, rates = self._kind(steps), self._rates_at(steps, costs, tiling)
                    if kind not in forms.by_kind:
                        forms.by_kind[kind] = forms.like(self._form(steps, forms, tiling))
                    own = _Node.of(steps, forms.by_kind[kind], rates)
                    if own.sign != node.sign:
                        seen.add(steps)
                        # What another with the same commands can become by more is enough, where that slows less down.
                        alike = forms.explored.setdefault(own.sign, [])
                        if not any(map(all, (map(le, one, steps) for one in alike))):
                            alike.append(steps)
                            yield own
                        break

    def _form(self, steps: _Steps, forms: _Forms, tiling: Tiling) -> _Form:
        """The program at a pace. One that differs from another in the pace of the working buffer's ports is written
        from that: its commands last at least as long as their bytes need.
        """
        costs = self._costs_at(steps)
        assert costs is not None
        base = tuple(0 if at in self._near else step for at, step in enumerate(steps))
        moved = None
        if base != steps and self.phase.port_bytes is not None:
            whole = self._costs_at(base)
            assert whole is not None
            kind = self._kind(base)
            if kind not in forms.by_kind:
                forms.by_kind[kind] = _Form(image_of(self.phase, whole, tiling), self._rates_at(base, whole, tiling))
            if kind not in forms.port_bytes:
                told = self.phase.port_bytes(self.phase, whole, tiling)
                forms.port_bytes[kind] = None if told is None else _PortBytes.of(told)
            moved = forms.port_bytes[kind]
        if moved is None:
            return _Form(image_of(self.phase, costs, tiling), self._rates_at(steps, costs, tiling))
        return forms.by_kind[kind].with_ports(costs.working, moved)

    def _costs_at(self, steps: _Steps) -> TileCosts | None:
        """None where a port would be slower than a machine can have it."""
        if steps not in self._costs:
            try:
                self._costs[steps] = costs_at(self.costs, self._pace(steps))
            except (InputError, ValueError):
                self._costs[steps] = None
        return self._costs[steps]

    def _kind(self, steps: _Steps) -> object:
        """Equal where programs differ only by the rates of their channels."""
        if steps not in self._kinds:
            costs = self._costs_at(steps)
            assert costs is not None
            filled = tuple(costs.fills(level) for level in levels_of(costs.machine))
            self._kinds[steps] = filled, tuple(steps[at] for at in self._near)
        return self._kinds[steps]

    def _pace(self, steps: _Steps) -> Pace:
        return tuple(sorted((port, 1 << step) for port, step in zip(self.ports, steps, strict=True) if step))

    def _named(self, steps: _Steps) -> dict[str, int]:
        return {name_of(self.phase.name, port): n for port, n in self._pace(steps)}

    def _rates_at(self, steps: _Steps, costs: TileCosts, tiling: Tiling) -> _Rates:
        """Of the channels of the program, as :func:`tilewright.sim.lowering.evaluation.build_phase` numbers them."""
        if self._of_tiling is None or self._of_tiling[0] is not tiling:  # the same at all paces
            n_channels = len(self.phase.core.channels(self.costs, tiling))
            shares = core_shares(self.costs.layer, self.costs.machine, tiling)
            self._of_tiling = tiling, n_channels, tuple(share.n_cores for share in shares)
        _, n_channels, n_cores = self._of_tiling
        key = steps, n_channels, n_cores
        if key not in self._rates:
            channels = self.phase.core.channels(costs, tiling)
            own = channels_by_share(costs.machine, channels, list(n_cores))[0]
            rates = (channel.bytes_per_cycle for channel in own)
            self._rates[key] = tuple(self._same.setdefault(rate, rate) for rate in rates)
        return self._rates[key]

    def _ports_of(self, root: _Form, tiling: Tiling) -> list[int]:
        """The ports whose pace changes the program."""
        key = root.rates, root.channels
        if key not in self._mattering:
            self._mattering[key] = [at for at in range(len(self.ports)) if self._matters(at, root, tiling)]
        return self._mattering[key]

    def _matters(self, at: int, root: _Form, tiling: Tiling) -> bool:
        """Whether a port is one that commands wait for, or the way of transfers of the program."""
        if at in self._near:
            return True
        port = self.ports[at]
        far = tuple((MOST.bit_length() - 1) * (name == port) for name in self.ports)
        costs = self._costs_at(far)
        if costs is None or root.slower(self._rates_at(far, costs, tiling)):
            return True
        if not port.endswith(_WRITE):
            return False
        read = port.removesuffix(_WRITE) + _READ  # a slow write port takes commands for what is fetched there
        return read in self.ports and self._matters(self.ports.index(read), root, tiling)
