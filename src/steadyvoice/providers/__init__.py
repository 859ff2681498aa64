"""Providers: vendors' APIs and local voices, one module each, behind one protocol."""
