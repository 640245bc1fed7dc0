"""Audio inside the model deployments: decoding, timing, stretching, encoding."""
