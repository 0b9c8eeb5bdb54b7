"""A router that speaks UPnP on this machine, without its search: what it was told stands in ``table``.

It gives each port to whoever asks last, as many routers do although the specification forbids it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WAN = "urn:schemas-upnp-org:service:WANIPConnection:1"
_DEVICE = """<device><deviceType>urn:schemas-upnp-org:device:{}:1</deviceType><friendlyName>r</friendlyName>
<manufacturer>m</manufacturer><modelName>m</modelName><UDN>uuid:1</UDN>{}</device>"""
_SERVICE = f"""<serviceList><service><serviceType>{_WAN}</serviceType>
<serviceId>urn:upnp-org:serviceId:1</serviceId><SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL>
<eventSubURL>/event</eventSubURL></service></serviceList>"""
_ROOT = _DEVICE
for _kind in ("InternetGatewayDevice", "WANDevice"):
    _ROOT = _ROOT.replace("{}", _kind, 1).replace("{}", f"<deviceList>{_DEVICE}</deviceList>", 1)
_ROOT = _ROOT.format("WANConnectionDevice", _SERVICE)
_DESCRIPTION = f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{_ROOT}</root>'
_ENVELOPE = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"
s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>{}</s:Body></s:Envelope>"""
_FAULT = """<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{}</errorCode></UPnPError>
</detail></s:Fault>"""

NO_SUCH_ENTRY = 714
INVALID_ACTION = 401


class UpnpRouter:
    """What the router has given: where each of its ports leads."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.table: dict[int, tuple[str, int]] = {}
        self.asked: list[str] = []
        self.deaf_to: set[str] = set()
        """Actions that it does not know."""

    def act(self, action: str, given: dict[str, str]) -> dict[str, Any] | int:
        """Do what it is told; the answer, or the number of the error."""
        self.asked.append(action)
        if action in self.deaf_to:
            return INVALID_ACTION
        port = int(given.get("NewExternalPort", 0))
        answer: dict[str, Any] | int = INVALID_ACTION
        match action:
            case "GetExternalIPAddress":
                answer = {"NewExternalIPAddress": "5.5.5.2"}
            case "AddPortMapping":
                self.table[port] = given["NewInternalClient"], int(given["NewInternalPort"])
                answer = {}
            case "DeletePortMapping":
                answer = {} if self.table.pop(port, None) is not None else NO_SUCH_ENTRY
            case "GetSpecificPortMappingEntry" if port in self.table:
                client, inside = self.table[port]
                answer = {
                    "NewInternalPort": inside,
                    "NewInternalClient": client,
                    "NewEnabled": 1,
                    "NewPortMappingDescription": "x",
                    "NewLeaseDuration": 0,
                }
            case "GetSpecificPortMappingEntry":
                answer = NO_SUCH_ENTRY
        return answer


@contextmanager
def upnp_router() -> Iterator[UpnpRouter]:
    """Run one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, _DESCRIPTION)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            action = self.headers["SOAPAction"].strip('"').partition("#")[2]
            answer = router.act(action, dict(re.findall(r"<(New\w+)>([^<]*)</", body)))
            if isinstance(answer, int):
                self._send(500, _ENVELOPE.format(_FAULT.format(answer)))
                return
            said = "".join(f"<{name}>{value}</{name}>" for name, value in answer.items())
            said = f'<u:{action}Response xmlns:u="{_WAN}">{said}</u:{action}Response>'
            self._send(200, _ENVELOPE.format(said))

        def _send(self, status: int, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        router = UpnpRouter(f"http://127.0.0.1:{server.server_port}/root.xml")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield router
        finally:
            server.shutdown()
            thread.join()
