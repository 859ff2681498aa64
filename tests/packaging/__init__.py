"""The distribution as users install it: built, unpacked, and run without the repository."""
