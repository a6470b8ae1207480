"""What events say of users, as profiles."""
