"""A program as one flat array of integers: what the compiled engine reads.

Layout (all int64): a header of offsets, then one section each for engines, channels, semaphores,
instructions, commands and the token lists. The header makes an image self-contained, so a batch is
many images laid end to end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.program import MAX_CYCLES, Command, Loop, Program, Queue, too_long

__all__ = ["pack"]

Int64Array = npt.NDArray[np.int64]

# Header fields.
N_ENGINES, N_CHANNELS, N_SEMAPHORES, N_LOOPS = 0, 1, 2, 3
AT_ENGINES, AT_CHANNELS, AT_SEMAPHORES, AT_LOOPS = 4, 5, 6, 7
AT_INSTRUCTIONS, AT_COMMANDS, AT_LISTS = 8, 9, 10
HEADER_SIZE = 11

# Instructions: (operation, a, b, c, d, e).
OP_COMMAND, OP_LOOP, OP_END, OP_HALT = 0, 1, 2, 3
INSTRUCTION_SIZE = 6

# Commands: cycles, channel, work units, bytes, waits (offset, number), signals (offset, number).
COMMAND_SIZE = 8


class _Packer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.instructions: list[int] = []
        self.commands: list[int] = []
        self.lists: list[int] = []
        self.text: list[Command] = []
        self.depended: set[int] = set()
        shares = program.channel_shares()
        self.units_per_byte = [share[0] for share in shares]
        self.units_per_cycle = [share[1] for share in shares]
        self.list_at: dict[tuple[int, ...], int] = {}

    def queue(self, queue: Queue, enclosing: tuple[int, ...]) -> None:
        instructions = self.instructions
        for item in queue:
            if isinstance(item, Loop):
                self.loop(item, enclosing)
            else:
                instructions.extend((OP_COMMAND, len(self.text), 0, 0, 0, 0))
                self.command(item)

    def loop(self, loop: Loop, enclosing: tuple[int, ...]) -> None:
        depth_over = -1
        if loop.step:
            depth_over = enclosing.index(loop.over)
            # A loop whose trips differ in length is not periodic, nor is one around another such loop's
            # index: only the loop that is depended on may not be skipped.
            self.depended.add(loop.over)
        begin = len(self.instructions)
        self.instructions.extend((OP_LOOP, loop.ident, loop.count, loop.step, depth_over, -1))
        self.queue(loop.body, (*enclosing, loop.ident))
        self.instructions.extend((OP_END, begin // INSTRUCTION_SIZE + 1, 0, 0, 0, 0))
        self.instructions[begin + 5] = len(self.instructions) // INSTRUCTION_SIZE

    def tokens(self, tokens: tuple[int, ...]) -> int:
        at = self.list_at.get(tokens)
        if at is None:
            at = self.list_at[tokens] = len(self.lists)
            self.lists.extend(tokens)
        return at

    def command(self, command: Command) -> None:
        work = 0
        if command.channel >= 0:
            work = command.n_bytes * self.units_per_byte[command.channel]
        if command.cycles > MAX_CYCLES:
            raise too_long(f"one command ({command.label})")
        self.text.append(command)
        self.commands.extend(
            (
                command.cycles,
                command.channel,
                work,
                command.n_bytes,
                self.tokens(command.waits),
                len(command.waits),
                self.tokens(command.signals),
                len(command.signals),
            )
        )


def pack(program: Program) -> tuple[Int64Array, list[Command]]:
    """The image of ``program``, and its commands in the order in which the image numbers them."""
    packer = _Packer(program)
    starts: list[int] = []
    for queue in program.queues:
        starts.append(len(packer.instructions) // INSTRUCTION_SIZE)
        packer.queue(queue, ())
        packer.instructions.extend((OP_HALT, 0, 0, 0, 0, 0))
    n_loops = len(program.loop_names)
    engines = [value for e, start in enumerate(starts) for value in (start, program.engines[e].weight)]
    semaphores = [semaphore.initial for semaphore in program.semaphores]
    skippable = [0 if ident in packer.depended else 1 for ident in range(n_loops)]
    sections = [
        engines,
        packer.units_per_cycle,
        semaphores,
        skippable,
        packer.instructions,
        packer.commands,
        packer.lists,
    ]
    header = [len(program.engines), len(program.channels), len(semaphores), n_loops]
    at = HEADER_SIZE
    for section in sections:
        header.append(at)
        at += len(section)
    flat = header
    for section in sections:
        flat.extend(section)
    return np.array(flat, dtype=np.int64), packer.text
