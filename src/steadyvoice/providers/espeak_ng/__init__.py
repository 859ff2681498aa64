"""eSpeak NG in a child process: the worker, the queue in front of it, and its voices."""
