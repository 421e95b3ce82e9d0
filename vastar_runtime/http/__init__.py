"""Outbound HTTP/1.1 on trio and h11: URLs, connections, the pool, redirects, decoding."""
