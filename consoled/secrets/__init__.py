"""Where secrets come from: files, the environment, systemd's credentials, helper programs, Vault.

Implements the seam `consoled.core.secret.Secrets`; `tap` makes one `Fetcher` for all backends.
"""
