"""What operators see: metrics, and the route that tells them."""
