"""A Streamlit page without a browser: the websocket that the browser's code would open, and what comes through it."""

from __future__ import annotations

from socket import create_connection

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60


def socket(address: str, cookie: str = "", origin: str | None = None, host: str = "") -> ClientConnection:
    """A context manager. Raises websockets' InvalidStatus where the server refuses the connection. `host`: the name
    under which it is asked for, where that is not its address."""
    here = address.removeprefix("http://")
    listening, port = here.split(":")
    return connect(
        f"ws://{host or here}/_stcore/stream",
        sock=create_connection((listening, int(port)), PATIENCE_S) if host else None,
        additional_headers={"Cookie": cookie} if cookie else {},
        origin=origin or address,
        subprotocols=["streamlit"],
        max_size=None,
        open_timeout=PATIENCE_S,
    )


def ask_for(connection: ClientConnection, page: str, query: str = "") -> None:
    message = BackMsg()
    message.rerun_script.page_name = page
    message.rerun_script.query_string = query
    connection.send(message.SerializeToString())


def run_page(connection: ClientConnection, page: str, query: str = "") -> list[ForwardMsg]:
    """What one run of the page sent."""
    ask_for(connection, page, query)
    sent = []
    while True:
        message = ForwardMsg()
        message.ParseFromString(connection.recv(timeout=PATIENCE_S))
        sent.append(message)
        if message.WhichOneof("type") == "script_finished":
            return sent


def alerts(sent: list[ForwardMsg]) -> str:
    """The words of every box that refuses or warns."""
    return " ".join(
        message.delta.new_element.alert.body
        for message in sent
        if message.WhichOneof("type") == "delta" and message.delta.new_element.WhichOneof("type") == "alert"
    )


def shown_links(sent: list[ForwardMsg]) -> set[str]:
    """The pages that the top of the page leads to."""
    [navigation] = [message.navigation for message in sent if message.WhichOneof("type") == "navigation"]
    return {page.url_pathname or "worklist" for page in navigation.app_pages if not page.is_hidden}
