"""Items of many callers, gathered into calls of many items: the rule, and callers on an event loop or in threads."""
