"""A request with credentials in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vastar_runtime.http.request import OutboundRequest, written


def with_credentials(request: OutboundRequest, values: Sequence[tuple[bytes, bytes, bool]]) -> OutboundRequest:
    """The request as it goes out. It holds secrets: what a redirect is made from is the one without them.

    Args:
        values: header's name in lower case, the field's whole value, and whether it replaces the request's own; of two
            for the same header the first counts.
    """
    own = {name for name, _ in request.headers}
    added: dict[bytes, bytes] = {}
    for name, value, override in values:
        if name not in added and (override or name not in own):
            added[name] = value
    if not added:
        return request
    headers = (*(header for header in request.headers if header[0] not in added), *added.items())
    return msgspec.structs.replace(request, headers=headers, lines=written(headers))
