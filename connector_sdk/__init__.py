"""Build connectors on the Vastar Connector Runtime."""
