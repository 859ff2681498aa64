"""Pipeline of one utterance: candidates, attempts, timeouts, validation and delivery of the audio."""
