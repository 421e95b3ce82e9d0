"""What a request's ``connector_name`` chooses. A new connector is one file and one line here."""

from .base import Call, Connector, Services
from .http import HttpConnector

CONNECTORS: dict[str, Connector] = {connector.name: connector for connector in (HttpConnector(),)}

__all__ = ["CONNECTORS", "Call", "Connector", "Services"]
