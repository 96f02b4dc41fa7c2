"""How long it takes, exactly: programs, the engine that runs them, and their results."""
