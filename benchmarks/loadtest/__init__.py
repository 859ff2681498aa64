"""Parts of the soak test: traffic, its generator, the processes under test, the capacity search, the bars."""
