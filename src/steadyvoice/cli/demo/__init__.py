"""The demo: a story as data, lived through, told in a terminal, drawn and recorded."""
