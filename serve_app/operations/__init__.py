"""Starting, watching and stopping the service on a machine."""
