"""The doors: sockets and HTTP routes, the connections behind them, and which stream each carries."""
