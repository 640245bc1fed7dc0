"""What a media-service worker runs: DubClient and the command line."""
