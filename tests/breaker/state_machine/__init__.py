"""States, transitions, rules, windows, timers, manual control and reconfiguration."""
