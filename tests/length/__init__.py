"""Error rates of length validation, and the page that shows them."""
