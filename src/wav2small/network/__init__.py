"""What a network is, in NumPy alone: its description, front end, layers, references and weights."""
