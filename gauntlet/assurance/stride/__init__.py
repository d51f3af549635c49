"""The executable threat model: claims and their checks come in, evidence and a status per threat go out."""
