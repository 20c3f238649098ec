"""One Lightning module that trains with any method."""
