"""Who is calling.

key_text   the text of a key: made, recognised, hashed
api_keys   from the credential headers of a request to a Principal
key_book   the keys that are known now, kept up to date with the store
jwt        one access token: read without trust, then verified
jwks       the keys of issuers: found, fetched, kept, renewed
issuers    from the document to the issuers whose tokens are taken
oauth      from an access token, or a key, to a Principal
bootstrap  the administrator's first key: given, kept, or made at first start
"""
