"""Parts of the gateway benchmark: a vendor, callers, and the gateways side by side."""
