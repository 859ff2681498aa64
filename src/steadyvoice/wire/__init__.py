"""Each vendor's shapes on the wire, written once.

Adapters send them, the gateway answers with them, the simulator imitates them.
"""
