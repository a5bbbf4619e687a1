"""One suite for each port of `waygate_mcp.model.ports`, run over every implementation."""
