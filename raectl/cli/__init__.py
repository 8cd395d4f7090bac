"""The command line: a command a file, which parses, imports inside the function, calls, and prints."""
