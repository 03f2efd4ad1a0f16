"""Which node, and which of its devices, a worker is given: packing policies behind one protocol."""
