"""Streams and sockets: the wire protocol, the session core and the Ray Serve application around them."""
