"""`freshet replay` and `freshet simulate`: events that come from a log or from simulated users."""
