"""Other makers' configuration made ours, and the document edited so that nothing else in it changes.

- `files`: text written whole or not at all, with what was there kept beside it
- `document_text`: an entry put into or taken out of the document, as text
- `jsonc`: JSON with comments, as editors write it
- `found_servers`: which servers a file of a client, or of another Waygate, names
- `shapes`: the members of clients that write servers in a shape of their own
- `secret_texts`: which texts of a server are secrets, and where they are put instead
- `plan`: what an import would do, and doing it

The shape most clients share is known in `config.client_servers`, since the document accepts it as well.
"""

from __future__ import annotations
