"""What integration tests share: a real server, a bare worker, fragments cut from real speech."""
