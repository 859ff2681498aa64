"""Audio as bytes: framing, codecs, conversion, validation and crossfade. PyAV is imported only to convert."""
