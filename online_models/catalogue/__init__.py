"""What is known of items by themselves, and how requests ask for it."""
