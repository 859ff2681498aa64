"""OpenAI on the wire: speech requests and answers, and errors."""
