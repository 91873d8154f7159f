"""Networks in NumPy: description, front end, layers, reference implementations and weights."""
