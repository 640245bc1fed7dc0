"""What every model replica is made of: threads, health, live settings, how long its calls take."""
