"""Other makers' configuration made ours.

- `jsonc`: JSON with comments, as editors write it
- `found_servers`: which servers a file of a client, or of another Waygate, names
- `shapes`: the members of clients that write servers in a shape of their own
- `secret_texts`: which texts of a server are secrets, and where they are put instead
- `plan`: what an import would do, and doing it

The shape most clients share is known in `config.client_servers`, since the document accepts it as well.
"""

from __future__ import annotations
