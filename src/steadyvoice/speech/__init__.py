"""The words of the domain: requests, audio formats, alignment, text and errors. No I/O."""
