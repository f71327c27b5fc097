"""Where clients come in: the ports, and TLS on them.

`settings` is `[tls]`; `identity` reads one certificate with its key; `contexts` makes them into what OpenSSL wants, for
several names, and keeps them fresh; `listeners` makes the services.  `tap` calls them; above them stands the site of
`api`, below them `api.doors` counts who comes.
"""
