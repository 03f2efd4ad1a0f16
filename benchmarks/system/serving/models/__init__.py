"""Models whose time is known: what serving makes of it is measured with them. A sleep stands for an accelerator."""
