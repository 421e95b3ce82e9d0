"""Where daemon and clients meet unless they are told otherwise (protocol.md part 1)."""

DEFAULT_SOCKET_PATH = "/tmp/vastar-connector-runtime.sock"  # noqa: S108 - every SDK knows it
DEFAULT_TCP_PORT = 5000

# sun_path holds 108 bytes with its NUL (unix(7)); a longer path fails in bind() and connect() with a message that names
# nothing.
MAX_SOCKET_PATH_BYTES = 107
