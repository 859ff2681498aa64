"""Version of the package, of the wheel and in the User-Agent of requests to vendors."""

__version__ = "0.1.0"
