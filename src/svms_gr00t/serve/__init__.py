"""A policy behind a socket: N1.6's ZMQ protocol and openpi's websocket, and a client without torch."""
