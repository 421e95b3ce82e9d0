"""The daemon's side of the wire: listener, session (one a connection), request (with a task where something must be
waited for), outbox (one writer)."""
