"""From candidates to a list: the slate, the stages that change it, and the engine that runs them."""
