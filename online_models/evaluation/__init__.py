"""How lists are judged: protocols, metrics and paired intervals. Pure; `ops.evaluate` reads files and prints."""
