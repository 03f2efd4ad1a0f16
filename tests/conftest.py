"""For all tests: an interrupt interrupts, whoever started the run.

A shell without job control starts what goes to the background with SIGINT ignored, and children inherit that: the tests
that interrupt real processes would then wait for ever.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
