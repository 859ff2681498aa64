"""Error rates of the judgement by length, and the page that shows them."""
