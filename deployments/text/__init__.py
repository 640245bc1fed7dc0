"""Text between languages: numbers and the like as each language writes them, and as it says them. Knows no engines."""
