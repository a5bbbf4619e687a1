"""What happens to a call between the door and the provider.

gateway        the endpoints of one generation, by name
endpoint       what one endpoint offers; answers its methods
catalog        public names → providers, lists and their pages
chain, steps/  the rings around every call
exchange       one call from its arrival to its one final answer
parking        calls waiting for a modern client's answer
tickets        the sealed texts in `requestState`
sessions       legacy sessions: sealed ids, small state
stream_buffer  events kept for resumption
hub            changes on their way to those who listen
live           all of the above that outlives a reload
"""
