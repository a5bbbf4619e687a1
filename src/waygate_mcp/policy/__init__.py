"""May they, and how often.

`limits` decides which rates a call is counted by; `counters` counts in this process, `shared_counters`
over the workers of one machine.
"""
