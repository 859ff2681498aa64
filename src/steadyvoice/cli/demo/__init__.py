"""`steadyvoice demo`: a scripted outage, its run, and its output as text, audio and picture."""
