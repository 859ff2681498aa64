"""Fast lane: usual requests, relayed in callbacks; anything unusual is handed over to the pipeline."""
