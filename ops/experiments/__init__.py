"""`freshet experiments`: what arms did, from the lake."""
