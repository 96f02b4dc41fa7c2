"""A network's layers as a pipeline over a chip: stages, their groups of cores, images that stream through."""
