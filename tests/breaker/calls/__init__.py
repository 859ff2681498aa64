"""Entry points of the breaker: permits, decorators, streams, and the classification of their results."""
