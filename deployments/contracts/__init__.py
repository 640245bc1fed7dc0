"""What models and streams have agreed on."""
