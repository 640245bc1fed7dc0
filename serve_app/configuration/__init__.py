"""What the YAML and the environment say: read, checked, with where each value comes from."""
