"""What protects callers and upstreams, one stage a file."""
