"""The library's front door: an utterance goes in, and speech, or the most honest thing available, comes out."""
