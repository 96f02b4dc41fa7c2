"""Attention on factors of low rank: tiles of Q, K and V are made on chip where they are used."""
