"""Our nouns, and the verbs the rooms meet in.

principal   who is calling
call        one call, the events on its way, its reply
catalog     what providers offer
event       what happened outside of any call
pins        which definitions of an upstream are trusted, which wait
look_alikes names that could be taken for others
decision    the outcome a call is recorded with
ports       Provider, Caller, Step, Handler, Supervisor: the Protocols rooms know each other by

Nothing here opens, reads or waits.
"""
