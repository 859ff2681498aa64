"""What a gateway is measured with: a vendor, callers, and the gateways side by side."""
