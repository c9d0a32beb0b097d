"""VirtualServices, DestinationRules and ServiceEntries as Envoy configuration, for standalone."""
