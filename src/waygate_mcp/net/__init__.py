"""Everything outbound: one narrow interface, who fulfils it, and the one guarded way out.

http            HttpExchange, HttpResponse: what a connector asks for
transports      open_transport: which of the following carries requests to a URL
pooled          our own pooled HTTP/1.1 client, on connection, pool and heads
aiohttp_client  the same through aiohttp
asgi            an application in this process
urls            a URL taken apart once
addresses       what kind of place an IP address is
dial            which addresses a policy permits, and connecting to the very one that was checked
"""
