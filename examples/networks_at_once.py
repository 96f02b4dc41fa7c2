"""A keyword spotter and a camera network at once on one chip: who holds up whom on the DRAM, exact to the cycle.

Run with: python examples/networks_at_once.py
"""

import tilewright
from tilewright.search.pipeline.at_once import Placement, run_at_once

machine = tilewright.load_machine("edge-16x16").with_(n_cores=4, **{"dram.bandwidth_gb_per_s": 8})
spotter = tilewright.load_network("ds-cnn").with_formats(weights="int8", activations="int8")
camera = tilewright.load_network("fsrcnn:height=54,width=96").with_formats(weights="int8", activations="int8")
places = [Placement(stream=spotter, n_cores=1, n_images=8), Placement(stream=camera, n_cores=3, n_images=2)]
for network in run_at_once(places, machine).networks:
    last = network.images[-1][1]
    print(
        f"{network.network}: {network.alone_cycles:,} cycles alone, {network.slowdown:.2f}x at once; done at {last:,}"
    )
