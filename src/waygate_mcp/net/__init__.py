"""Everything outbound: one narrow interface, and who fulfils it.

http            HttpExchange, HttpResponse: what a connector asks for
asgi            an application in this process
aiohttp_client  a server on the network
"""
