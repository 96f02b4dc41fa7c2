"""Devices of banks on a link, generating tokens: what a block takes in banks, on the link and in the controller.

A model is cut into pipeline stages, one block after another, and each stage over devices. One token of one request is
in each stage at a time, so ``stages`` tokens are made in the time of one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.hw_models.pim.spec import PimControllerSpec, PimLinkSpec, PimSpec
from tilewright.sim.pim.decoder_block import BlockPlace, DecoderShape, block_program, embedding_program
from tilewright.sim.pim.energy import channel_energy_pj
from tilewright.sim.pim.run import ChannelRun, run_program

__all__ = ["BlockTime", "PimSystem", "TokenTime", "controller_seconds", "gather_seconds", "vector_seconds"]

_VALUE_BYTES = 2  # what crosses the link and the controller
_BEYOND_SECONDS = 0.15e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTime:
    """A block, one token: seconds in the banks, on the link and in the controller, one after another."""

    bank_seconds: float
    link_seconds: float
    controller_seconds: float
    run: ChannelRun

    @property
    def seconds(self) -> float:
        """All three."""
        return self.bank_seconds + self.link_seconds + self.controller_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTime:
    """A token: ``seconds`` from the first block to the last and ``tokens_per_second`` of all stages together;
    ``bank_energy_pj`` of the devices' memory.
    """

    block: BlockTime
    embedding_seconds: float
    seconds: float
    tokens_per_second: float
    bank_energy_pj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PimSystem:
    """``devices`` like ``device``, on which a decoder of ``blocks`` blocks of ``shape`` runs in ``stages``.

    ``stages`` devices or fewer with equal shares of devices each (tensor parallel), or as many stages as blocks, which
    then share a device's channels. ``beyond_seconds``: sampling the next token, on the host.
    """

    device: PimSpec
    devices: int
    shape: DecoderShape
    blocks: int
    stages: int
    beyond_seconds: float = _BEYOND_SECONDS

    def __post_init__(self) -> None:
        if self.device.controller is None or self.device.link is None:
            raise InputError(
                f"{self.device.name}: has no {'controller' if self.device.controller is None else 'link'}; "
                "a system of devices needs both; allowed a device with them, such as cent"
            )
        if self.stages != self.blocks and self.devices % self.stages:
            raise InputError(
                f"stages: {self.devices} devices cannot be shared out; given {self.stages}; allowed a divisor of "
                f"{self.devices}, or the number of blocks {self.blocks}"
            )

    @property
    def blocks_at_once(self) -> int:
        """Blocks of one device that work at the same time."""
        return -(-self.blocks // self.devices) if self.stages == self.blocks else 1

    @property
    def place(self) -> BlockPlace:
        """The channels and devices of a block."""
        channels = self.device.organisation.n_channels
        tensor = 1 if self.stages == self.blocks else self.devices // self.stages
        return BlockPlace(channels=channels // self.blocks_at_once, channels_per_device=channels, devices=tensor)

    def block(self, context: int) -> BlockTime:
        """One token through one block with ``context`` tokens behind it."""
        device, shape = self.device, self.shape
        assert device.link is not None and device.controller is not None
        organisation = device.organisation
        program = block_program(shape, context, self.place, organisation)
        run = run_program(program, device.timing, organisation.banks_per_channel, refresh=device.refreshes)
        lanes = device.link.lanes // self.devices
        if self.stages == self.blocks:
            link = vector_seconds(device.link, shape.dim, lanes)
        else:
            link = gather_seconds(device.link, shape, lanes, self.place.devices)
        return BlockTime(
            bank_seconds=device.seconds(run.cycles),
            link_seconds=link,
            controller_seconds=self.blocks_at_once * controller_seconds(device.controller, shape, context),
            run=run,
        )

    def token(self, context: int) -> TokenTime:
        """One token through all blocks, with the embeddings and what the host does with it."""
        block = self.block(context)
        device, organisation = self.device, self.device.organisation
        program = embedding_program(self.shape, self.place, organisation)
        run = run_program(program, device.timing, organisation.banks_per_channel, refresh=device.refreshes)
        embedding = device.seconds(run.cycles)
        seconds = self.blocks * block.seconds + embedding + self.beyond_seconds
        energy = channel_energy_pj(self.device, block.run).total_pj * self.place.channels * self.place.devices
        return TokenTime(
            block=block,
            embedding_seconds=embedding,
            seconds=seconds,
            tokens_per_second=self.stages / seconds,
            bank_energy_pj=energy * self.blocks,
        )


def controller_seconds(controller: PimControllerSpec, shape: DecoderShape, context: int) -> float:
    """Two norms, a softmax and the rotary embedding of one block, one after another."""
    read, write = controller.buffer_read_cycles, controller.buffer_write_cycles
    adds = 2 * controller.units * read + controller.add_cycles + write
    exponentials = controller.units * read + controller.exponential_cycles + write
    at_once = controller.lanes * controller.units
    # sums of 16 banks come out of the banks added
    norm = shape.dim / controller.lanes / at_once * adds + read + write + 1 + controller.norm_cycles
    softmax = context * shape.heads / at_once * (exponentials + adds) + shape.heads * read
    softmax += shape.heads * (controller.lanes * write + controller.softmax_cycles / controller.cores + read)
    rotary = shape.dim * (1 + shape.kv_heads / shape.heads) * controller.rotary_cycles / controller.cores
    return (2 * norm + softmax + rotary) / (controller.clock_ghz * 1e9)


def vector_seconds(link: PimLinkSpec, n: int, lanes: int) -> float:
    """A vector of ``n`` values from one device to another over ``lanes``."""
    return _hop_seconds(link) + _flits(link, n) * link.flit_bytes / _bytes_per_second(link, lanes)


def gather_seconds(link: PimLinkSpec, shape: DecoderShape, lanes: int, devices: int) -> float:
    """What ``devices`` that share a block exchange: five vectors out to all and back, and the wide one once."""

    def back(n: int) -> float:
        flits = _flits(link, n / devices) * (devices - 1)
        return _hop_seconds(link) + flits * link.flit_bytes / _bytes_per_second(link, lanes)

    out = 5 * vector_seconds(link, shape.dim, lanes) + vector_seconds(link, shape.ffn, lanes)
    return out + 5 * back(shape.dim) + back(shape.ffn)


def _hop_seconds(link: PimLinkSpec) -> float:
    return (4 * link.port_ns + 2 * link.layers_ns + link.switch_ns) * 1e-9


def _flits(link: PimLinkSpec, values: float) -> int:
    import math

    return math.ceil(values * _VALUE_BYTES / link.message_bytes / link.messages_per_flit)


def _bytes_per_second(link: PimLinkSpec, lanes: int) -> float:
    return lanes * link.lane_gib_per_s * link.multicast_share * 2**30
