"""Validity: the evidence of an evaluation comes in; VALID, SUSPECT or INVALID with reasons goes out."""
