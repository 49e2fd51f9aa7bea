"""`Scope`: contexts that are bound or declare, and the path of a request through them."""
