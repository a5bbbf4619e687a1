"""Python functions as Providers.

    Toolbox           functions registered by decorators (`toolbox.py`)
    ToolboxProvider   a box that answers calls (`provider.py`)
    Context           what a function knows of its call (`context.py`)
    InputRequired     an answer that asks first (`questions.py`)
    Text, Image, …    what results are made of (`content.py`)
    ToolError         how a tool says that it failed (`failures.py`)

Behind them: signatures.py and docstrings.py read functions, definitions.py writes what is published,
validation.py checks arguments, entries.py holds what a call needs, results.py encodes answers, threads.py
runs functions written without `async`.
"""
