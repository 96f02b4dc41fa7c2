"""What one step of decoding costs on a machine, in closed form: bytes, multiply-adds, unpacking, launches."""
