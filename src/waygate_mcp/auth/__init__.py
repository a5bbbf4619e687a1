"""Who is calling.

key_text   the text of a key: made, recognised, hashed
api_keys   from the credential headers of a request to a Principal
key_book   the keys that are known now, kept up to date with the store
bootstrap  the administrator's first key: given, kept, or made at first start
"""
