"""What every test may count on."""

from __future__ import annotations

import signal

# A shell that starts a job in the background makes it ignore Ctrl-C, and every process that it starts inherits that.
# Tests interrupt their processes, so SIGINT means SIGINT here.
signal.signal(signal.SIGINT, signal.default_int_handler)
