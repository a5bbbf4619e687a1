"""The admin API, `/admin/v1`: one module with its routes per noun.

approvals   definitions of upstreams that wait, and deciding about them
"""
