"""Who judges what a server did: from the protocol's rules alone, for tests and benches alike. Knows neither of them."""
