"""From an order by score to the list that is shown."""
