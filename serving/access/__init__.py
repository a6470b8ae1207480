"""Who may call what, and how often: keys, their scopes, their rates, and the middleware that asks for them."""
