"""Several nodes on one engine, what happens to them, and whether anybody lost an event by it."""
