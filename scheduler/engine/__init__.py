"""The bridge to Ray: membership, one agent a node, commands out, events back."""
