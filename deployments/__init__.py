"""Models and audio: the three Serve deployments and the engines behind them.

This package never hears of sockets or streams' ordering. What crosses between it and `serve_app` stands in
`contracts` (values) and `errors` (failures).
"""
