"""Conversations: speech from text that is still being written, turn by turn."""
