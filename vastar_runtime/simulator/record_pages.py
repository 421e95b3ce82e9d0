"""Links between numbered pages of records (RFC 8288)."""

import ipaddress
import re

from starlette.requests import Request

from vastar_runtime.config.quoting import shown_address

# What a Host may hold that is to stand in a header and in JSON; others are answered with the address of the server.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?")
_MAX_PORT = 65535


def base_url(request: Request) -> str:
    """The URL by which the client reached the simulator, such as "http://127.0.0.1:4545"."""
    host = request.headers.get("host", "")
    if not _is_host(host):
        host = shown_address(*request.scope["server"])
    return f"{request.scope['scheme']}://{host}"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found[2] or 0) > _MAX_PORT:
        return False
    try:
        return found[1] is None or bool(ipaddress.IPv6Address(found[1]))
    except ValueError:
        return False


def page_links(request: Request, page: int, last: int) -> dict[str, str]:
    """The header Link for a page; none when all is on one.

    Args:
        page, last: numbers from 1; the page may lie behind the last one.
    """
    relations = {}
    if page > 1:
        relations["prev"] = min(page - 1, last)
    if page < last:
        relations["next"] = page + 1
        relations["last"] = last
    if page > 1:
        relations["first"] = 1
    url = f"{base_url(request)}{request.scope['raw_path'].decode('latin-1')}"
    links = [f'<{url}?{_query(request, number)}>; rel="{relation}"' for relation, number in relations.items()]
    return {"link": ", ".join(links)} if links else {}


def _query(request: Request, page: int) -> str:
    return request.url.include_query_params(page=page).query
