"""`python -m node_agent.serving --model FILE.py --class NAME`: one replica of a tenant's model, in this process.

Listens on SUANLI_BIND_HOST (default 127.0.0.1), on a port of the system's choice, and on the Unix socket
SUANLI_UNIX_SOCKET where that is set. Once the model is loaded, warm and listened for, SUANLI_READY_FILE is written:
host:port, and the socket's path in a second line. Exit code 0 after SIGTERM, 1 when the model cannot be served or does
not come back (the reason is on stderr), 2 for wrong arguments.

SUANLI_BATCH_MAX, SUANLI_BATCH_WAIT_S, SUANLI_SLO_MS and SUANLI_STUCK_S are the job file's word on batches and on how
long the model may take; they count more than the model's own.
"""

from __future__ import annotations

import sys

from node_agent.serving.replica import main

if __name__ == "__main__":
    sys.exit(main())
