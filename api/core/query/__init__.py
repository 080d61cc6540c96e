"""From a query string to one SQL statement that returns JSON."""
