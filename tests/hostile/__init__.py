"""Malformed and hostile inputs: each ends in one clear line, and nothing changes."""
