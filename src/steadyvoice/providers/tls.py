"""TLS settings of connections to vendors, with or without a proxy."""

from __future__ import annotations

import os
from functools import lru_cache
from ssl import SSLContext, create_default_context


def tls_context() -> SSLContext:
    """Return the context that trusts the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    Reading them takes some ten milliseconds, so it is kept for as long as these variables stay the same.
    """
    return _context_for(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _context_for(file: str | None, folder: str | None) -> SSLContext:
    return create_default_context()
