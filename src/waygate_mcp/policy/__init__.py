"""May they, how often, and what is trusted.

`limits` decides which rates a call is counted by; `counters` counts in this process, `shared_counters`
over the workers of one machine.

definitions   what a definition is pinned by: its digest over every field; what changed between two
poison        signs in a definition that it means to deceive
held          what waits, for people: changed fields, signs, what to approve
pins          which definitions are trusted and which wait, in memory, of one process
pinned        an upstream behind its pins, as a Provider
approval_desk deciding about what waits, in the journal first
"""
