"""Upstreams that misbehave in every way there is, behind the real gateway."""
