"""What a process knows: the models in its memory, users as it reads them, and what is left without Redis."""
