"""Parts of the soak test: traffic, load generator, processes under test, capacity search and acceptance criteria."""
