"""`livedub plan`: how much hardware a number of streams needs. Starts nothing and measures nothing."""
