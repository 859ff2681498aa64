"""The HTTP front door: an application in any language points its client's `base_url` here."""
