"""Processing of one utterance: provider selection, attempts, validation and delivery of the audio."""
