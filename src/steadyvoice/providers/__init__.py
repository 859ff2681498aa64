"""Providers: vendors' APIs and local voices, one module each, behind one protocol. Needs the extra `[audio]`."""

from steadyvoice._extras import require

require("audio", "msgspec", "httptools", "av")
