"""What a variable is: its spec, a request for it, its initial value, its collections."""
