"""Raw events -> the topics `clean` and `rejected`: validated, normalised, each once."""
