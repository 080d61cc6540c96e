"""Who may do what: callers, permissions and the rows and fields that they open. It knows neither Flask nor SQL."""
