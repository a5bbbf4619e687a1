"""Remote MCP servers as providers.

streamable_http  connect: a Provider over one HTTP exchange, in whatever era the server has
detect           which era a server speaks
modern           the stateless connector, and its listening stream
legacy           the connector with sessions
sessions         which caller gets which session
channel          the seam to transports: requests out, messages in
calls            how a call is written for an upstream, and what its answer means
questions        questions of a server, in both eras' shapes
events           progress, log messages and changes on their way to those they concern
listing          lists of entries: pages read, bounded, kept
slices           members cut out of raw JSON without touching the rest
"""
