"""A service: files over HTTP and live streams over WebSockets, as one ASGI application (extra ``serve``)."""
