"""May they, and what is trusted.

definitions   what a definition is pinned by: its digest over every field; what changed between two
poison        signs in a definition that it means to deceive
held          what waits, for people: changed fields, signs, what to approve
pins          which definitions are trusted and which wait, in memory, of one process
pinned        an upstream behind its pins, as a Provider
"""
