"""Remote MCP servers as providers.

opening          open_upstream: a configuration becomes a Provider, whether its server is up or not
steady           that Provider: opened when it can be, left alone when it fails, lists kept
connector        what it needs of an upstream that is open
hosted           that, by way of the process that holds stdio upstreams for several workers
hosting          that process; host_frames: what travels between the two
status           how an upstream is, its bounds, and what the house keeps of it: words
holding          what steady holds of it: the open connector, copies of lists
subscriptions    who subscribed to what, so that a new connection knows it too
breaker          when an upstream is left alone or looked at, and how many calls it may hold
streamable_http  connect: the connector over one HTTP exchange, in whatever era the server has
http_sse         the old HTTP transport as a line
stdio            a process as a line
lines            lines opened when needed, and again after they broke off
multiplex        many requests on one line, and whom the rest concerns
process          a child process: started, read, ended, nothing left of it
launch           a child's first steps, in the child
environment      what a child is given
sandbox          the walls round a child
orphans          children that outlived a killed gateway
outside_text     text from outside, fit for one line of the log
detect           which era a server speaks
modern           the stateless connector, and its listening stream
legacy           the connector with sessions
live_calls       calls in flight in a session, and which of them a message is about
sessions         which caller gets which session
tasks            calls that become tasks: relayed, or awaited; task_messages: where ids of tasks stand
task_stream      a listening stream about tasks
channel          the seam to transports: requests out, messages in
calls            how a call is written for an upstream, and what its answer means
gathering        questions asked together, and the response that ends the asking
questions        questions of a server, in both eras' shapes
asked_urls       whom to tell that a URL was visited; roots: telling that a client's roots changed
events           progress, log messages and changes on their way to those they concern
listing          lists of entries: pages read, bounded, kept
slices           members cut out of raw JSON without touching the rest
"""
