"""Real stores for the tests: a Postgres and an OpenStack Swift with its S3 interface, started and stopped here."""
