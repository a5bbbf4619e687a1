"""Plugins: what answers calls, found by name and opened with the generation.

api           all an author needs: Plugin, Services, and the toolkit's names
discovery     from `use:` to an object; what is installed
files         files beside the document, run anew for each generation
construction  which form a plugin has; its config checked
lifecycle     construct → configure → enter → used → leave
inspection    what a plugin would offer, without starting it
scaffold      a new plugin and its test, as files
mounted       server objects of other makers, served in this process
builtin/      those that come with the package
"""
