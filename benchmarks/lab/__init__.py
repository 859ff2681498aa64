"""Simulation of a provider with outages, for comparing the policies of circuit breakers."""
