"""A small world with a provider that breaks, and the policies that live in it."""
