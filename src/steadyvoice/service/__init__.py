"""Text-to-speech services: asynchronous and synchronous front end, options, results and configuration."""
