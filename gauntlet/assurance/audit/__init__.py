"""The audit log: events come in, a hash-chained file that can be verified goes out; secrets are masked."""
