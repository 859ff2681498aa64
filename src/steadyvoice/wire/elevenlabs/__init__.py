"""ElevenLabs on the wire: speech, dialogues, websockets, timestamps, catalog, account and errors."""
