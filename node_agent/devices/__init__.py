"""Devices: one adapter a vendor, one vocabulary for all. The only place that knows a vendor."""
