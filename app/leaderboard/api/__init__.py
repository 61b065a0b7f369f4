"""The REST API: a Falcon ASGI app. Knows HTTP and nothing of how state is kept. Never imports the worker."""
