"""The daemon's side of the wire: listener, session (one a connection), request (one task each), outbox (one writer)."""
