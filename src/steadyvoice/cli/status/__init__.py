"""`steadyvoice status`: a gateway's circuits in a terminal."""
