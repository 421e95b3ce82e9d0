"""A drop-in Vastar Connector Runtime: the daemon, its commands and its simulator."""

__version__ = "0.1.0"
