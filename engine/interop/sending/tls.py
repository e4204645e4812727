"""TLS towards a destination: the other side's certificate and host name are always checked."""

from __future__ import annotations

import ssl

from engine.interop.destinations import Destination
from engine.interop.sending import Unreachable


def tls_context(destination: Destination) -> ssl.SSLContext:
    """Raises Unreachable where a file of the settings is no certificate or key."""
    try:
        context = ssl.create_default_context(cafile=destination.ca_file and str(destination.ca_file))
        if destination.certificate is not None:
            context.load_cert_chain(destination.certificate, destination.key)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"the certificate files of the settings cannot be used ({type(error).__name__})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
