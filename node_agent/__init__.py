"""The node agent: devices, processes and logs of one node. Imports nothing of scheduler."""
