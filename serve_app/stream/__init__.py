"""The session core: everything the protocol's rules decide, as effects out of events and `now`. PURE."""
