"""What a request's ``connector_name`` chooses. A new connector is one file and one line here."""

from .base import Call, Connector, Services
from .http import HttpConnector
from .runtime import RuntimeConnector

CONNECTORS: dict[str, Connector] = {connector.name: connector for connector in (HttpConnector(), RuntimeConnector())}

__all__ = ["CONNECTORS", "Call", "Connector", "Services"]
