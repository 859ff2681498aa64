"""Websockets to vendors that take text piece by piece: connections, contexts, text streams and their pool."""
