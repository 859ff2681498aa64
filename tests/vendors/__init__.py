"""Further vendors, beside ElevenLabs and OpenAI: each is one entry of `VENDORS`, and passes every test here."""
