"""One file a protocol; the name of the file is the name of the protocol."""
