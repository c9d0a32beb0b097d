"""The HTTP API, its reports and its pages."""
