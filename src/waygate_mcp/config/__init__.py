"""Configuration: schemas and how they are read, nothing that acts on them.

Its nouns:

    Settings            the process, from the environment (`settings.py`)
    Document            what is served, from `waygate.yaml`; reloadable (`document.py`)
    load_document       a file → a checked Document (`load.py`)
    resolve_references  `${env:…}`, `${file:…}`, `${secret:…}` → text (`references.py`)
    SecretText          text that is not shown; the master key (`secrets.py`)
    parse_yaml          YAML → plain values and their places (`yaml_text.py`)
    put_entry           the document edited so that nothing else in it changes (`document_text.py`)
    write_whole         a file written whole or not at all (`files.py`)
"""
