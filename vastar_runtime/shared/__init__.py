"""Limits that several daemons share: counted in Redis, by its clock alone."""
