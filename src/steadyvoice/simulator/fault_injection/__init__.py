"""Fault injection: the actions, the rules that select them, and their written form."""
