"""Change a machine and see what it changes: half the DRAM bandwidth, a vector unit of 32 lanes.

Run with: python examples/own_machine.py
"""

import tilewright

base = tilewright.load_machine("edge-16x16")
slower = base.with_(**{"dram.bandwidth_gb_per_s": 15, "vector.lanes": 32})
for name, machine in (("edge-16x16", base), ("15 GB/s, 32 lanes", slower)):
    comparison = tilewright.compare("bert-base", machine, dataflows=["flat", "mas"])
    flat, mas = comparison.results
    print(f"{name:<18} flat {flat.cycles:>10,}  mas {mas.cycles:>10,}  {flat.cycles / mas.cycles:.2f}x")
