"""Quotas of requests in a time, counted in this process's memory or, for all processes, in Redis."""
