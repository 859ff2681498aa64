"""Fault injection: the actions, the rules that select them, their written form, and their effect on HTTP responses."""
