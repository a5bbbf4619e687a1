"""MCP as pure data: bytes in, values out, and back. No I/O, no clock, no log.

versions      the five revisions and what each can do
capabilities  what a client declared it can answer
jsonrpc       strict parsing, and the three shapes of a message
methods       revision × method
headers       `Mcp-*` headers, `Mcp-Param-*`, the base64 form
ladder        classification of a message that arrived over HTTP or a line
handshake     legacy: initialize, downgrades for old readers
stateless     modern: `_meta`, discover, input_required, listen
failures      which error has which code and HTTP status
log_levels    the eight levels of a log message
framing       SSE events and lines
seal          authenticated encryption of what travels through clients
uris          RFC 6570 templates, as far as MCP needs them
"""
