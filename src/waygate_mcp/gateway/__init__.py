"""What happens to a call between the door and the provider.

gateway        the endpoints of one generation, by name
endpoint       what one endpoint offers; answers its methods
catalog        public names → providers, lists and their pages
offers         what a binding offers, under the names and with the words it has here
names          how names and URIs become public, and which are unfit to
name_table     whose a public name is; name_file keeps that for the next start
links          URIs inside definitions and results; seen_links remembers who gave them
chain, steps/  the rings around every call
exchange       one call from its arrival to its one final answer
parking        calls waiting for a modern client's answer
tickets        the sealed texts in `requestState`
tasks          the handles clients get for tasks, and the way back; task_watch: tasks on listen streams
sessions       legacy sessions: sealed ids, small state; notices: what their clients say unasked
stream_buffer  events kept for resumption
hub            changes on their way to those who listen
live           all of the above that outlives a reload
"""
