"""Certificates for this machine's own names, made when the simulator starts and forgotten when it ends."""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

OWN_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """A certificate authority of one's own. Clients trust it by its file, `ca_file`; keys are never kept.

    Raises ValueError when the package that makes certificates is not installed.
    """

    def __init__(self, host: str) -> None:
        try:
            import trustme  # here, so that plain HTTP does not need it
        except ImportError:
            raise ValueError('TLS needs a package that makes certificates: pip install "steadyvoice[tls]"') from None
        self._authority = trustme.CA(organization_name="steadyvoice simulator")
        self._names = (*OWN_NAMES, *({host} - {*OWN_NAMES}))
        self._folder = TemporaryDirectory(prefix="steadyvoice-sim-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def context(self) -> ssl.SSLContext:
        """What a server needs to be believed under this machine's names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*self._names).configure_cert(context)
        return context

    def close(self) -> None:
        """Take the file away."""
        self._folder.cleanup()
