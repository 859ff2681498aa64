"""Reference model of the breaker, and a comparison of the two under random scenarios."""
