"""The daemon: transfers that outlive a terminal, an HTTP API, a page and metrics (docs/daemon.md)."""
