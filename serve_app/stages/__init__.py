"""The way of a fragment through the models, and the models as it sees them."""
