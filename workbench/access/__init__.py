"""Who may do what, and how much of it: keys, sign-ins, limits.

Import from the modules: `access.Access`, `access.Caller`, `keys.new_key`, `limits.Limits`.
"""
