"""Program that waits until the gateway on a port is healthy, for use in shell scripts."""

from __future__ import annotations

import sys
import time
import urllib.request

for _ in range(300):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=1) as answer:
            sys.exit(0 if answer.status == 200 else 1)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
