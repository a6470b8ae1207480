"""What whoever runs the system asks and does: how far it is, what is wrong, what was refused, state built again."""
