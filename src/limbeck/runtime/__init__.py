"""What everything stands on: random streams, the cache, files that are whole or not there, locks, processes, signals, timing."""
