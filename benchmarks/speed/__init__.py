"""What a guarded call costs, with us and with others."""
