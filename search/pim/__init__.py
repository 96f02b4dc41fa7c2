"""A machine whose memory computes: what of a network its banks do, searched with proof, at each batch."""
