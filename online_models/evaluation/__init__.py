"""How lists are judged: protocols, metrics and paired intervals. Pure; `ops.evaluation` reads files and prints."""
