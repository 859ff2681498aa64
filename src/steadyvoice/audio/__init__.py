"""Audio as bytes: converted, measured, judged, silent, or spoken in tones. Imports PyAV only to convert."""
