"""Vendors' API dialects: how each reads requests and words its responses and errors."""
