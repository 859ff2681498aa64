"""Certificates for this machine's own names, made when the simulator starts and forgotten when it ends."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

_LONG_AGO, _NOT_SO_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)

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
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._folder = TemporaryDirectory(prefix="steadyvoice-sim-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def context(self, flaw: str | None = None) -> ssl.SSLContext:
        """What a server needs to be believed under this machine's names; or not, for the reason given."""
        if flaw not in self._contexts:
            self._contexts[flaw] = self._made(flaw)
        return self._contexts[flaw]

    def _made(self, flaw: str | None) -> ssl.SSLContext:
        authority, names = self._authority, self._names
        if flaw == "authority":
            authority = type(authority)(organization_name="nobody you know")
        if flaw == "name":
            names = ("somebody-else.example",)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A ticket would reach the client just as it sends its request. Clients that read and write in two threads, as
        # ElevenLabs' realtime client does, then wait for ever now and then: Python's sockets only bear that since 3.13.
        context.num_tickets = 0
        if flaw == "expired":
            authority.issue_cert(*names, not_before=_LONG_AGO, not_after=_NOT_SO_LONG_AGO).configure_cert(context)
        else:
            authority.issue_cert(*names).configure_cert(context)
        return context

    def close(self) -> None:
        """Take the file away."""
        self._folder.cleanup()
