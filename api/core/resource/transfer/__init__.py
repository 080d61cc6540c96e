"""Rows of a resource out to a file and in from one: CSV and NDJSON, streamed, whatever their size."""
