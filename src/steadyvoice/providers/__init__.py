"""What turns text into audio: vendors' APIs and local voices, one file each."""
