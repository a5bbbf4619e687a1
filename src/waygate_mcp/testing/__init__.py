"""For tests of others: a fixture that shows every feature, and fakes for plugin authors.

    everything   the fixture, a plugin: `use: waygate_mcp.testing.everything`
    asking       its part that asks the client questions
    fakes        a recording Caller, calls made by hand, a provider of one box

Promised to others like the root's names; nothing in the rest of the package may import it.
"""
