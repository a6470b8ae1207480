"""`freshet evaluate`: logs, models, protocols and reports."""
