"""Kinds of SOURCE, a file each: each opens what it recognises as a `Dataset`."""
