"""Who may come in and what they may do: one gate, its checkers, the tenants, the audit log.

No console byte passes through here.  A request does, before its upgrade: `gate` asks the checkers (`tokens`,
`jwt_tokens`, `certificates`, `tickets`) who it is, `roles` and `tenants` what that allows, and hands the face a scope,
which is decided again while the session lasts; `core.access` is all that a face sees of it.
"""
